//! One model of threats over any columns: several detectors, their evidence in one calibrated score.
//!
//! **Formula.** Columns are numbers, categories or texts. A text column of at most 1,024 distinct values whose mean length
//! is at most 32 bytes is one of categories, unless nearly every row has its own. Detectors:
//! - with rows of both classes: [`crate::oblivious_trees`] over numbers and categories (a category as its smoothed log odds and as
//!   its frequency), and [`crate::hashed_ngrams::Linear`] for each text column;
//! - from ordinary rows alone: [`crate::conditional_histograms`] with the category column of most values as the entity;
//!   without any, all rows as one entity, and [`crate::isolation_forest`] over two or more columns of numbers beside; and
//!   [`crate::hashed_ngrams::Reader`] for each text column.
//!
//! A share of the ordinary rows, drawn by the seed, is kept from fitting and calibrates: [`conformal`] p-values of each
//! detector, then of their fused evidence. `novelty` is the share of the false-alarm budget that detectors of novelty get.
//! The score of a row is 1 − p: a threshold of 0.98 alarms on 2 % of rows like those it was calibrated on. Recalibrate on
//! local ordinary rows where the place is another than that of training.
//!
//! **Explanation.** A feature's part in a score is the evidence, in nats, that goes away when its value is replaced by an
//! ordinary one, of eight the one that leaves least: numbers that stand evenly among ordinary rows, the most frequent
//! categories, texts of even lengths. Parts need not add up: where two features tell the same, neither is missed.
//!
//! **Missing values.** NaN and the empty text are values of their own. No ordinary rows to calibrate on is an error.
//!
//! **Order of reduction, papers:** those of the detectors. The trees' CUDA twin is used where there is a device.
//!
//! **Invariant:** a model follows from its rows, its parameters and its seed; its bytes (`format.rs`) hold all of it.

mod column;
mod detector;
mod evaluation;
mod format;
#[cfg(test)]
mod tests;

use self::column::{Column, Rows};
pub use self::column::{Kind, Values};
use self::detector::Detector;
pub use self::evaluation::{Evaluation, FALSE_ALARMS, evaluate};
use crate::conformal::{self, Calibration};
use crate::splitmix::{SplitMix, mixed};
use crate::{Device, Error, Result, oblivious_trees};

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Of the boosted trees; their seed is that of the whole.
    pub trees: oblivious_trees::Params,
    /// The share of the false-alarm budget for detectors of novelty, 0 to 1. Without attacks among the rows it is 1.
    pub novelty: f64,
    /// The share of ordinary rows that calibrate, above 0, below 1.
    pub calibration: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { trees: oblivious_trees::Params::default(), novelty: 0.2, calibration: 0.2 }
    }
}

/// A trained and calibrated model.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreatModel {
    columns: Vec<Column>,
    detectors: Vec<Detector>,
    calibrations: Vec<Calibration>,
    fused: Calibration,
    novelty: f64,
}

/// What a model says of rows.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// 1 − p of every row: above 0.98 are 2 % of ordinary rows.
    pub scores: Vec<f64>,
    /// The p-values themselves, which tell apart what a score near 1 cannot.
    pub p_values: Vec<f64>,
    /// How many times the device was launched.
    pub launches: u64,
}

/// Trains on rows; `labels` say which are attacks, none for rows that are all ordinary.
///
/// # Errors
/// [`Error::Parameter`] when a parameter is out of range or there is no ordinary row, [`Error::Shape`] when the slices do
/// not fit together.
pub fn train(
    device: &Device,
    names: &[&str],
    values: &[Values],
    labels: Option<&[bool]>,
    params: &Params,
) -> Result<ThreatModel> {
    check(params)?;
    let rows = column::rows(values)?;
    if names.len() != values.len() || labels.is_some_and(|labels| labels.len() != rows) {
        return Err(Error::Shape("names, columns and labels of a threat model must fit together".to_owned()));
    }
    let is_attack = |row: usize| labels.is_some_and(|labels| labels[row]);
    let mut random = SplitMix::new(params.trees.seed, 1 << 40);
    let calibrates: Vec<bool> = (0..rows).map(|row| random.unit() < params.calibration && !is_attack(row)).collect();
    let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..rows).filter(|row| wanted(*row)).collect() };
    let held_out = of(&|row| calibrates[row]);
    let fitted = of(&|row| !calibrates[row]);
    let fit_labels: Vec<bool> = fitted.iter().map(|row| is_attack(*row)).collect();
    if held_out.is_empty() || !fit_labels.contains(&false) {
        let text = "a threat model needs ordinary rows to train and to calibrate on: some hundred at least";
        return Err(Error::Parameter(text.to_owned()));
    }
    let owned: Vec<column::Owned> = values.iter().map(|column| column.pick(&fitted)).collect();
    let views: Vec<Values> = owned.iter().map(column::Owned::view).collect();
    let columns: Vec<Column> =
        names.iter().zip(&views).map(|(name, column)| Column::fit(name, column, &fit_labels)).collect();
    let detectors = detector::fit(device, &columns, &views, &fit_labels, params)?;
    let supervised = detectors.iter().any(|detector| !detector.is_novelty());
    let novelty = if supervised { params.novelty } else { 1.0 };
    let blank = Calibration::new(&[]);
    let calibrations = vec![blank.clone(); detectors.len()];
    let model = ThreatModel { columns, detectors, calibrations, fused: blank, novelty };
    let owned: Vec<column::Owned> = values.iter().map(|column| column.pick(&held_out)).collect();
    model.recalibrated(device, &owned.iter().map(column::Owned::view).collect::<Vec<_>>())
}

impl ThreatModel {
    /// The columns in order: name and kind.
    pub fn features(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.kind()))
    }

    /// A number for names and types of the columns: models of equal numbers take the same rows.
    #[must_use]
    pub fn schema_hash(&self) -> u64 {
        schema_hash(self.features().map(|(name, kind)| (name, kind == Kind::Number)))
    }

    /// The detectors' names, with the share of the false-alarm budget that each has.
    #[must_use]
    pub fn detectors(&self) -> Vec<(String, f64)> {
        self.detectors.iter().map(|detector| detector.name(&self.columns)).zip(self.shares()).collect()
    }

    /// How many ordinary rows it is calibrated on.
    #[must_use]
    pub fn calibrated_rows(&self) -> u32 {
        self.fused.count()
    }

    /// The score of every row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the columns are not those of the model.
    pub fn score(&self, device: &Device, values: &[Values]) -> Result<Scores> {
        let (evidence, launches) = self.evidence(device, values)?;
        let p_values: Vec<f64> = evidence.iter().map(|evidence| self.fused.p_value(*evidence)).collect();
        Ok(Scores { scores: p_values.iter().map(|p| 1.0 - p).collect(), p_values, launches })
    }

    /// How much evidence each feature brings to each row: row × feature, in nats, at least 0.
    ///
    /// # Errors
    /// [`Error::Shape`] when the columns are not those of the model.
    pub fn explain(&self, device: &Device, values: &[Values]) -> Result<Vec<f64>> {
        let (whole, _) = self.evidence(device, values)?;
        let width = self.columns.len();
        let mut parts = vec![0.0; whole.len() * width];
        for (at, column) in self.columns.iter().enumerate() {
            let mut least = whole.clone();
            for ordinary in column.ordinary(whole.len()) {
                let mut replaced = values.to_vec();
                replaced[at] = ordinary.view();
                let (without, _) = self.evidence(device, &replaced)?;
                least.iter_mut().zip(without).for_each(|(least, without)| *least = least.min(without));
            }
            for (row, (whole, least)) in whole.iter().zip(least).enumerate() {
                parts[row * width + at] = whole - least;
            }
        }
        Ok(parts)
    }

    /// The same model calibrated on other ordinary rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when the columns are not those of the model, [`Error::Parameter`] when there are no rows.
    pub fn recalibrated(&self, device: &Device, values: &[Values]) -> Result<Self> {
        let (raw, _) = self.raw(device, values)?;
        if column::rows(values)? == 0 {
            return Err(Error::Parameter("a calibration needs ordinary rows: some thousand are good".to_owned()));
        }
        let calibrations: Vec<Calibration> = raw.iter().map(|scores| Calibration::new(scores)).collect();
        let mut model = Self { calibrations, ..self.clone() };
        model.fused = Calibration::new(&model.fuse(&raw));
        Ok(model)
    }

    /// Whether new, mostly ordinary rows score as those that the model was calibrated on did, by the p-values that it gave them.
    /// None for no rows.
    #[must_use]
    pub fn drift_of(&self, p_values: &[f64]) -> Option<conformal::Drift> {
        self.fused.drift(p_values)
    }

    /// Every detector's raw scores, and the launches they took. A detector without a share says nothing.
    fn raw(&self, device: &Device, values: &[Values]) -> Result<(Vec<Vec<f64>>, u64)> {
        let rows = Rows::new(&self.columns, values)?;
        let mut launches = 0;
        let shares = self.shares();
        let raw = self.detectors.iter().zip(shares).map(|(detector, share)| {
            if share == 0.0 {
                return Ok(Vec::new());
            }
            let (scores, launched) = detector.score(device, &rows)?;
            launches += launched;
            Ok(scores)
        });
        let raw: Vec<Vec<f64>> = raw.collect::<Result<_>>()?;
        Ok((raw, launches))
    }

    fn evidence(&self, device: &Device, values: &[Values]) -> Result<(Vec<f64>, u64)> {
        let (raw, launches) = self.raw(device, values)?;
        Ok((self.fuse(&raw), launches))
    }

    /// The fused evidence of every row.
    fn fuse(&self, raw: &[Vec<f64>]) -> Vec<f64> {
        let shares = self.shares();
        let rows = raw.iter().map(Vec::len).max().unwrap_or(0);
        let mut p_values = vec![1.0; raw.len()];
        let of_row = |row: usize| {
            for (p, (scores, calibration)) in p_values.iter_mut().zip(raw.iter().zip(&self.calibrations)) {
                *p = scores.get(row).map_or(1.0, |score| calibration.p_value(*score));
            }
            conformal::fused(&p_values, &shares)
        };
        (0..rows).map(of_row).collect()
    }

    /// The budget of false alarms, divided between the detectors.
    fn shares(&self) -> Vec<f64> {
        let count =
            |novelty: bool| self.detectors.iter().filter(|one| one.is_novelty() == novelty).count().max(1) as f64;
        let (known, new) = (count(false), count(true));
        let share = |one: &Detector| if one.is_novelty() { self.novelty / new } else { (1.0 - self.novelty) / known };
        self.detectors.iter().map(share).collect()
    }
}

/// A number for names and types of columns, in order; the type is whether a column is of numbers.
pub fn schema_hash<'a>(columns: impl Iterator<Item = (&'a str, bool)>) -> u64 {
    columns.fold(0x6A09_E667_F3BC_C908, |hash, (name, is_number)| {
        let hash = name.bytes().fold(hash, |hash, byte| mixed(hash ^ u64::from(byte)));
        mixed(hash ^ if is_number { 0x100 } else { 0x200 })
    })
}

/// Whether the parameters are in range; those of the trees are checked by them.
fn check(params: &Params) -> Result<()> {
    if !(0.0..=1.0).contains(&params.novelty) {
        let text = format!("a novelty of {} is out of range: use a share from 0 to 1", params.novelty);
        return Err(Error::Parameter(text));
    }
    if !(params.calibration > 0.0 && params.calibration < 1.0) {
        let text = format!("a calibration of {} is out of range: use a share between 0 and 1", params.calibration);
        return Err(Error::Parameter(text));
    }
    Ok(())
}
