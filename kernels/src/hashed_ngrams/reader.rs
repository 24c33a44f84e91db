//! The surprise of a text to who has read ordinary ones only.
//!
//! **Invariant:** counts of fixed number, whatever the texts; reading in any order gives the same counts.

#[cfg(feature = "cuda")]
use super::cuda::{Model, score};
use super::head;
use crate::splitmix::mixed;
use crate::{Device, Result, lanes};

/// Buckets of counts.
pub(super) const BUCKETS: usize = 1 << 17;
/// Predecessors that a byte is judged by.
const ORDER: usize = 3;
/// Pseudo-counts of the shorter context.
const BACK_OFF: f64 = 4.0;
/// Nats that a byte may take before it counts, as it is and by class.
const PATIENCE: [f64; 2] = [4.0, 2.0];

/// What was read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    counts: Vec<u32>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Reader {
    /// A reader from its counts; `None` where there are not as many as buckets.
    #[must_use]
    pub fn from_counts(counts: Vec<u32>) -> Option<Self> {
        (counts.len() == BUCKETS).then_some(Self { counts })
    }

    /// The counts, one a bucket.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Learns from ordinary texts; may be called again and again.
    pub fn read(&mut self, texts: &[&str]) {
        for text in texts {
            for view in 0..2 {
                walk(
                    head(text),
                    view,
                    |before, gram| {
                        for bucket in [before, gram] {
                            self.counts[bucket] = self.counts[bucket].saturating_add(1);
                        }
                        true
                    },
                    |_| {},
                );
            }
        }
    }

    /// The surprise of every text, in nats.
    ///
    /// # Errors
    /// [`crate::Error::Stopped`].
    pub fn surprises(&self, device: &Device, texts: &[&str]) -> Result<Vec<f64>> {
        #[cfg(feature = "cuda")]
        if let Some(nats) = device.offload("reader_surprises", |gpu| score(device, gpu, &self.on_device(), texts))? {
            return Ok(nats);
        }
        lanes::map(device, texts.len(), || (), |(), row| (0..2).map(|view| self.surprise(head(texts[row]), view)).sum())
    }

    /// The model as the device takes it.
    #[cfg(feature = "cuda")]
    pub(super) fn on_device(&self) -> Model<'_> {
        Model::Reader { counts: &self.counts }
    }

    fn surprise(&self, text: &[u8], view: usize) -> f64 {
        let mut sum = 0.0;
        let p = std::cell::Cell::new(1.0 / 257.0);
        walk(
            text,
            view,
            |before, gram| {
                let known = f64::from(self.counts[before]);
                p.set((f64::from(self.counts[gram]) + BACK_OFF * p.get()) / (known + BACK_OFF));
                // A context that was never seen has no longer one that was.
                known > 0.0
            },
            |()| {
                sum += (-p.get().min(1.0).ln() - PATIENCE[view]).max(0.0);
                p.set(1.0 / 257.0);
            },
        );
        sum
    }
}

/// For every byte of the text and its end: `visit(bucket of the context, bucket of context and byte)` with longer and
/// longer contexts while it answers true, then `end`.
fn walk(text: &[u8], view: usize, mut visit: impl FnMut(usize, usize) -> bool, mut end: impl FnMut(())) {
    let mut last = 0x0202_0202u64;
    for byte in text.iter().chain(&[3]) {
        let symbol = if view == 0 { *byte } else { class(*byte) };
        let context = last;
        last = (last << 8 | u64::from(symbol)) & 0xffff_ffff;
        for length in 0..=ORDER {
            let mask = |bytes: usize| (1u64 << (8 * bytes)) - 1;
            let before = bucket(context & mask(length), length, view, 0);
            if !visit(before, bucket(last & mask(length + 1), length, view, 1)) {
                break;
            }
        }
        end(());
    }
}

/// Where the count of a gram is.
fn bucket(gram: u64, length: usize, view: usize, kind: u64) -> usize {
    (mixed(gram | (length as u64) << 40 | (view as u64) << 48 | kind << 56 | 1 << 60) >> 47) as usize
}

/// The symbol of a byte's class.
fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => b'a',
        b'A'..=b'Z' => b'A',
        b'0'..=b'9' => b'0',
        128.. => 128,
        other => other,
    }
}
