//! How unusual a row is for its entity: one histogram per entity and feature, learned from a stream of ordinary rows.
//!
//! **Formula.** With n(k) the rows of entity k so far, n(k, j, b) those of them with code b in feature j, and g(j, b) the
//! share of that code among all rows (each code's count raised by 0.05): P(b | k) = (n(k, j, b) + 30·g(j, b)) / (n(k) +
//! 30). The surprise of a row is Σⱼ min(4, −ln P(xⱼ | k) + ln max_b P(b | k)) − ln((n(k) + 0.3) / N), N all rows. The cap
//! keeps one odd feature from drowning the others. An entity that was never seen has n = 0 and the histograms of all.
//!
//! **Streams.** [`Histograms::learn`] may be called again and again. An entity that reaches 2²⁰ rows has its counts halved,
//! and so forgets slowly; state is bounded by entities × features × 64.
//!
//! **Missing values** are a code of their own (bin 0), whose surprise is learned like every other.
//!
//! **Order of reduction.** Features in ascending order, in 64 bits. Learning has a CPU twin only; tolerance between the twins
//! of scoring: none, they agree bit by bit.
//!
//! **Papers.** Goldstein and Dengel, *Histogram-based Outlier Score*, 2012 (features one by one); Jelinek and Mercer 1980
//! (backing off to the distribution of all).
//!
//! **Invariant:** learning the same rows in any order gives the same counts, as long as none is halved.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod tests;

use crate::{BINS, Codes, Device, Error, Result, lanes};

/// Pseudo-counts of the distribution of all.
const BACK_OFF: f64 = 30.0;
/// The most nats that one feature adds.
const CAP: f64 = 4.0;
/// Rows of an entity at which its counts are halved.
const ROWS_MAX: u32 = 1 << 20;
/// The most entities of a model.
pub const ENTITIES_MAX: usize = 1 << 16;
/// Rows that a thread scores at a time.
const BLOCK: usize = 1_024;

/// Counts of every entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histograms {
    features: usize,
    /// Rows of each entity.
    rows: Vec<u32>,
    /// entity × feature × bin.
    counts: Vec<u32>,
}

/// What [`Histograms::surprises`] looks up: made once, used for many rows.
#[derive(Clone, Debug)]
pub struct Surprises {
    features: usize,
    /// entity × feature × bin, with one entity more for those that were never seen.
    nats: Vec<f32>,
    /// How rare each entity is, in nats.
    rarities: Vec<f64>,
}

impl Histograms {
    /// Nothing learned yet, for entities 0 to below `entities`.
    ///
    /// # Errors
    /// [`Error::Parameter`] when there are too many entities.
    pub fn new(entities: usize, features: usize) -> Result<Self> {
        if entities > ENTITIES_MAX {
            return Err(Error::Parameter(format!("{entities} entities are too many: at most {ENTITIES_MAX}")));
        }
        Ok(Self { features, rows: vec![0; entities], counts: vec![0; entities * features * BINS] })
    }

    /// A model from what [`Histograms::rows`] and [`Histograms::counts`] said of it; `None` where they do not fit together.
    #[must_use]
    pub fn from_counts(features: usize, rows: Vec<u32>, counts: Vec<u32>) -> Option<Self> {
        let fits = rows.len() <= ENTITIES_MAX && counts.len() == rows.len() * features * BINS;
        fits.then_some(Self { features, rows, counts })
    }

    /// Rows of each entity.
    #[must_use]
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Counts, entity × feature × bin.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Learns from rows whose entities are `entities`; those out of range are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] when the slices do not fit together.
    pub fn learn(&mut self, codes: &Codes, entities: &[u32]) -> Result<()> {
        fits(self.features, codes, entities)?;
        for (row, entity) in entities.iter().enumerate() {
            let entity = *entity as usize;
            let Some(rows) = self.rows.get_mut(entity) else { continue };
            *rows += 1;
            let own = &mut self.counts[entity * self.features * BINS..][..self.features * BINS];
            for feature in 0..self.features {
                own[feature * BINS + usize::from(codes.column(feature)[row])] += 1;
            }
            if *rows >= ROWS_MAX {
                *rows /= 2;
                own.iter_mut().for_each(|count| *count /= 2);
            }
        }
        Ok(())
    }

    /// The table of surprises as of now.
    #[must_use]
    pub fn surprises(&self) -> Surprises {
        let all: f64 = self.rows.iter().map(|rows| f64::from(*rows)).sum::<f64>().max(1.0);
        let shares = self.shares();
        let mut nats = Vec::with_capacity((self.rows.len() + 1) * self.features * BINS);
        let none = vec![0; self.features * BINS];
        for entity in 0..=self.rows.len() {
            let rows = f64::from(self.rows.get(entity).copied().unwrap_or(0));
            let own = self.counts.get(entity * none.len()..(entity + 1) * none.len()).unwrap_or(&none);
            for (counts, shares) in own.as_chunks::<BINS>().0.iter().zip(&shares) {
                let p = |bin: usize| (f64::from(counts[bin]) + BACK_OFF * shares[bin]) / (rows + BACK_OFF);
                let most = (0..BINS).map(p).fold(0.0, f64::max);
                nats.extend((0..BINS).map(|bin| (most / p(bin)).ln().min(CAP) as f32));
            }
        }
        let rarity = |rows: f64| -((rows + 0.3) / all).ln();
        let rarities = self.rows.iter().map(|rows| rarity(f64::from(*rows))).chain([rarity(0.0)]).collect();
        Surprises { features: self.features, nats, rarities }
    }

    /// The share of every code among all rows, feature by feature.
    fn shares(&self) -> Vec<[f64; BINS]> {
        let mut shares = vec![[0.05; BINS]; self.features];
        for own in self.counts.chunks_exact((self.features * BINS).max(1)) {
            for (share, counts) in shares.iter_mut().zip(own.as_chunks::<BINS>().0) {
                share.iter_mut().zip(counts).for_each(|(share, count)| *share += f64::from(*count));
            }
        }
        for share in &mut shares {
            let all: f64 = share.iter().sum();
            share.iter_mut().for_each(|share| *share /= all);
        }
        shares
    }
}

impl Surprises {
    /// Features of a row.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// The surprise of every row, in nats. An entity out of range is one that was never seen.
    ///
    /// # Errors
    /// [`Error::Shape`] when the slices do not fit together.
    pub fn score(&self, device: &Device, codes: &Codes, entities: &[u32]) -> Result<Vec<f64>> {
        fits(self.features, codes, entities)?;
        #[cfg(feature = "cuda")]
        if let Some(sums) =
            device.offload("conditional_histograms", |gpu| cuda::score(device, gpu, self, codes, entities))?
        {
            return Ok(sums);
        }
        let unseen = self.rarities.len() - 1;
        let blocks = lanes::map(
            device,
            entities.len().div_ceil(BLOCK),
            || (),
            |(), block| {
                let rows = block * BLOCK..((block + 1) * BLOCK).min(entities.len());
                let entity = |row: usize| (entities[row] as usize).min(unseen);
                let mut sums: Vec<f64> = rows.clone().map(|row| self.rarities[entity(row)]).collect();
                for feature in 0..self.features {
                    let column = codes.column(feature);
                    for (sum, row) in sums.iter_mut().zip(rows.clone()) {
                        let at = (entity(row) * self.features + feature) * BINS + usize::from(column[row]);
                        *sum += f64::from(self.nats[at]);
                    }
                }
                sums
            },
        )?;
        Ok(blocks.concat())
    }
}

/// Whether rows, entities and model fit together.
fn fits(features: usize, codes: &Codes, entities: &[u32]) -> Result<()> {
    if codes.features() != features {
        let text = format!("rows have {} features, but the histograms have {features}", codes.features());
        return Err(Error::Shape(text));
    }
    if codes.rows() != entities.len() {
        return Err(Error::Shape(format!("{} rows need as many entities, not {}", codes.rows(), entities.len())));
    }
    Ok(())
}
