//! Columns of a threat model: what kind each is, and how its values become what the detectors take.
//!
//! **Invariant:** a value's codes follow from the fitted column alone; a category or number that was never seen has a code
//! that says so.

use std::cell::OnceCell;
use std::collections::HashMap;

use crate::{Bins, Error, Result};

/// The most categories of a column; rarer ones count as unseen.
const CATEGORIES_MAX: usize = 1_024;
/// The mean length of what is still taken for categories, in bytes.
const CATEGORY_BYTES_MAX: usize = 32;
/// Ordinary values that an explanation tries in place of a row's own.
pub(super) const ORDINARY: usize = 8;
/// Rows that smooth a category's odds.
const PRIOR_ROWS: f64 = 20.0;
/// The novelty code of categories that are known but rare, and of those never seen.
const RARE_CODE: u8 = 62;
const UNSEEN_CODE: u8 = 63;

/// A column of a call.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers; NaN is missing.
    Numbers(&'a [f64]),
    /// Texts; the empty one is missing.
    Texts(&'a [&'a str]),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Number,
    /// Texts of few distinct values.
    Category,
    /// Texts to be read.
    Text,
}

/// A column that owns its values.
pub(super) enum Owned<'a> {
    Numbers(Vec<f64>),
    Texts(Vec<&'a str>),
}

/// A fitted column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) fitted: Fitted,
}

/// What was fitted for a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fitted {
    Number { bins: Bins, closed: Bins, ordinary: Vec<f64> },
    Category(Categories),
    Text { ordinary: Vec<String> },
}

/// The categories of a column, the most frequent among ordinary rows first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Categories {
    pub(super) names: Vec<String>,
    /// Smoothed log odds and log frequency of each.
    pub(super) odds: Vec<f64>,
    pub(super) frequencies: Vec<f64>,
    pub(super) odds_bins: Bins,
    pub(super) frequency_bins: Bins,
    index: HashMap<String, u32>,
}

/// How many rows columns of equal length have.
pub(super) fn rows(columns: &[Values]) -> Result<usize> {
    let rows = columns.first().map_or(0, Values::len);
    match columns.iter().all(|column| column.len() == rows) && !columns.is_empty() {
        true => Ok(rows),
        false => Err(Error::Shape("a threat model needs at least one column, and columns of one length".to_owned())),
    }
}

impl<'a> Values<'a> {
    fn len(&self) -> usize {
        match self {
            Values::Numbers(values) => values.len(),
            Values::Texts(values) => values.len(),
        }
    }

    /// The values of these rows.
    pub(super) fn pick(&self, rows: &[usize]) -> Owned<'a> {
        match self {
            Values::Numbers(values) => Owned::Numbers(rows.iter().map(|row| values[*row]).collect()),
            Values::Texts(values) => Owned::Texts(rows.iter().map(|row| values[*row]).collect()),
        }
    }
}

impl Owned<'_> {
    pub(super) fn view(&self) -> Values<'_> {
        match self {
            Owned::Numbers(values) => Values::Numbers(values),
            Owned::Texts(values) => Values::Texts(values),
        }
    }
}

impl Column {
    /// Fits a column to rows of which some are attacks.
    pub(super) fn fit(name: &str, values: &Values, labels: &[bool]) -> Self {
        let fitted = match values {
            Values::Numbers(values) => {
                let ordinary: Vec<f64> =
                    values.iter().zip(labels).filter(|(_, attack)| !**attack).map(|(value, _)| *value).collect();
                Fitted::Number {
                    bins: Bins::fit(values),
                    closed: Bins::fit_closed(&ordinary),
                    ordinary: quantiles(ordinary),
                }
            }
            Values::Texts(texts) => match Categories::fit(texts, labels) {
                Some(categories) => Fitted::Category(categories),
                None => Fitted::Text { ordinary: examples(texts, labels) },
            },
        };
        Self { name: name.to_owned(), fitted }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.fitted {
            Fitted::Number { .. } => Kind::Number,
            Fitted::Category(_) => Kind::Category,
            Fitted::Text { .. } => Kind::Text,
        }
    }

    /// Ordinary values, each as a column of so many rows.
    pub(super) fn ordinary(&self, rows: usize) -> Vec<Owned<'_>> {
        match &self.fitted {
            Fitted::Number { ordinary, .. } => {
                ordinary.iter().map(|value| Owned::Numbers(vec![*value; rows])).collect()
            }
            Fitted::Category(categories) => repeated(&categories.names, rows),
            Fitted::Text { ordinary } => repeated(ordinary, rows),
        }
    }
}

/// The first texts, each as a column of so many rows.
fn repeated(texts: &[String], rows: usize) -> Vec<Owned<'_>> {
    texts.iter().take(ORDINARY).map(|text| Owned::Texts(vec![text.as_str(); rows])).collect()
}

/// Values that stand evenly among all of them.
fn quantiles(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|value| !value.is_nan());
    values.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| values.get(values.len() * (2 * part + 1) / (2 * ORDINARY)).copied();
    let mut found: Vec<f64> = (0..ORDINARY).filter_map(at).collect();
    found.dedup();
    found
}

/// Ordinary texts whose lengths stand evenly among all of them.
fn examples(texts: &[&str], labels: &[bool]) -> Vec<String> {
    let mut ordinary: Vec<&str> =
        texts.iter().zip(labels).filter(|(_, attack)| !**attack).map(|(text, _)| *text).collect();
    ordinary.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
    let at = |part: usize| ordinary.get(ordinary.len() * (2 * part + 1) / (2 * ORDINARY));
    (0..ORDINARY).filter_map(at).map(|text| (*text).to_owned()).collect()
}

impl Categories {
    /// The categories of a column, or none where it is one of texts.
    fn fit(texts: &[&str], labels: &[bool]) -> Option<Self> {
        let mut counts: HashMap<&str, [u32; 2]> = HashMap::new();
        for (text, attack) in texts.iter().zip(labels) {
            counts.entry(text).or_default()[usize::from(*attack)] += 1;
        }
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let own = counts.len() > CATEGORIES_MAX || counts.len() * 2 > texts.len().max(64);
        if own || bytes > texts.len() * CATEGORY_BYTES_MAX {
            return None;
        }
        let all = [false, true].map(|class| labels.iter().filter(|label| **label == class).count() as f64);
        let share = (all[1] + 0.5) / (all[0] + all[1] + 1.0);
        let mut ranked: Vec<(&str, [u32; 2])> = counts.into_iter().collect();
        ranked.sort_unstable_by(|(a, m), (b, n)| n[0].cmp(&m[0]).then(n[1].cmp(&m[1])).then(a.cmp(b)));
        let odds = ranked.iter().map(|(_, [good, bad])| {
            let p = (f64::from(*bad) + PRIOR_ROWS * share) / (f64::from(good + bad) + PRIOR_ROWS);
            (p / (1.0 - p)).ln()
        });
        let frequencies = ranked.iter().map(|(_, [good, bad])| f64::from(good + bad).ln());
        let names = ranked.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self::from_parts(names, odds.collect(), frequencies.collect())
    }

    /// Categories from their parts; none where these do not fit together.
    pub(super) fn from_parts(names: Vec<String>, odds: Vec<f64>, frequencies: Vec<f64>) -> Option<Self> {
        let fits = names.len() == odds.len() && odds.len() == frequencies.len() && names.len() <= CATEGORIES_MAX;
        let index = names.iter().enumerate().map(|(at, name)| (name.clone(), at as u32)).collect();
        let (odds_bins, frequency_bins) = (Bins::fit(&odds), Bins::fit(&frequencies));
        fits.then_some(Self { names, odds, frequencies, odds_bins, frequency_bins, index })
    }

    /// The place of every text among the categories; beyond the last for those never seen.
    fn places(&self, texts: &[&str]) -> Vec<u32> {
        let unseen = self.names.len() as u32;
        texts.iter().map(|text| self.index.get(*text).copied().unwrap_or(unseen)).collect()
    }
}

/// The rows of one call, with codes made when a detector first asks for them.
pub(super) struct Rows<'a> {
    pub(super) columns: &'a [Column],
    pub(super) values: &'a [Values<'a>],
    rows: usize,
    places: Vec<OnceCell<Vec<u32>>>,
    novelty: OnceCell<Vec<u8>>,
}

impl<'a> Rows<'a> {
    /// Rows for these columns.
    pub(super) fn new(columns: &'a [Column], values: &'a [Values<'a>]) -> Result<Self> {
        let rows = rows(values)?;
        if columns.len() != values.len() {
            let text = format!("the model takes {} columns, not {}", columns.len(), values.len());
            return Err(Error::Shape(text));
        }
        for (column, values) in columns.iter().zip(values) {
            let fits = matches!(values, Values::Numbers(_)) == (column.kind() == Kind::Number);
            if !fits {
                let wanted = if column.kind() == Kind::Number { "numbers" } else { "texts" };
                return Err(Error::Shape(format!("column \"{}\" of the model holds {wanted}", column.name)));
            }
        }
        let places = columns.iter().map(|_| OnceCell::new()).collect();
        Ok(Self { columns, values, rows, places, novelty: OnceCell::new() })
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The places of a column's categories.
    pub(super) fn places(&self, column: usize) -> &[u32] {
        self.places[column].get_or_init(|| match (&self.columns[column].fitted, &self.values[column]) {
            (Fitted::Category(categories), Values::Texts(texts)) => categories.places(texts),
            _ => Vec::new(),
        })
    }

    /// Codes for the trees: one feature for a number, two for a category. A feature that is not asked stays 0.
    pub(super) fn tree_codes(&self, asked: &[bool]) -> Vec<u8> {
        let mut codes = Vec::with_capacity(asked.len() * self.rows);
        let mut asked = asked.iter();
        let mut feature = |codes: &mut Vec<u8>, fill: &dyn Fn(&mut Vec<u8>)| match asked.next() {
            Some(true) | None => fill(codes),
            Some(false) => codes.resize(codes.len() + self.rows, 0),
        };
        for (at, (column, values)) in self.columns.iter().zip(self.values).enumerate() {
            match (&column.fitted, values) {
                (Fitted::Number { bins, .. }, Values::Numbers(values)) => {
                    feature(&mut codes, &|codes| bins.code(values, codes));
                }
                (Fitted::Category(categories), _) => {
                    let parts = [
                        (&categories.odds_bins, &categories.odds),
                        (&categories.frequency_bins, &categories.frequencies),
                    ];
                    for (bins, values) in parts {
                        // What was never seen is missing.
                        let mut table: Vec<u8> = values.iter().map(|value| bins.code_of(*value)).collect();
                        table.push(0);
                        let fill = |codes: &mut Vec<u8>| {
                            codes.extend(self.places(at).iter().map(|place| table[*place as usize]));
                        };
                        feature(&mut codes, &fill);
                    }
                }
                _ => {}
            }
        }
        codes
    }

    /// Codes for the histograms: one feature for a number or a category.
    pub(super) fn novelty_codes(&self) -> &[u8] {
        self.novelty.get_or_init(|| {
            let mut codes = Vec::new();
            for (at, (column, values)) in self.columns.iter().zip(self.values).enumerate() {
                match (&column.fitted, values) {
                    (Fitted::Number { closed, .. }, Values::Numbers(values)) => closed.code(values, &mut codes),
                    (Fitted::Category(categories), _) => {
                        let known = categories.names.len() as u32;
                        let code = |place: &u32| match *place {
                            place if place >= known => UNSEEN_CODE,
                            place => u8::try_from(place).unwrap_or(u8::MAX).min(RARE_CODE),
                        };
                        codes.extend(self.places(at).iter().map(code));
                    }
                    _ => {}
                }
            }
            codes
        })
    }

    /// The columns of numbers.
    pub(super) fn numbers(&self) -> Vec<&'a [f64]> {
        let number = |values: &Values<'a>| match values {
            Values::Numbers(values) => Some(*values),
            Values::Texts(_) => None,
        };
        self.values.iter().filter_map(number).collect()
    }

    /// The texts of a column.
    pub(super) fn texts(&self, column: usize) -> &'a [&'a str] {
        match self.values[column] {
            Values::Texts(texts) => texts,
            Values::Numbers(_) => &[],
        }
    }
}
