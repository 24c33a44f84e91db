//! How many different things were seen, in bounded memory.
//!
//! **Formula.** The 256 smallest hashes are kept. Up to 256 different things the count is exact; beyond, with the largest of
//! those k hashes as a share u of all hashes, it is (k − 1) / u, with a standard error of 6 %.
//!
//! **Source.** Bar-Yossef et al., *Counting Distinct Elements in a Data Stream*, RANDOM 2002.
//!
//! **Invariant:** the count depends on the set of things alone, not on their order or number.

use std::collections::BTreeSet;

use crate::splitmix::mixed;

/// Hashes kept.
const KEPT: usize = 256;

/// A set that is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Distinct(BTreeSet<u64>);

impl Distinct {
    /// Adds a thing by number or hash. Whether it may be new: always right up to 256 things.
    pub(super) fn add(&mut self, thing: u64) -> bool {
        let hash = mixed(thing.wrapping_add(0x9E37_79B9_7F4A_7C15));
        if self.0.len() == KEPT {
            match self.0.last() {
                Some(largest) if hash > *largest => return false,
                _ if self.0.contains(&hash) => return false,
                _ => self.0.pop_last(),
            };
        }
        self.0.insert(hash)
    }

    pub(super) fn count(&self) -> f64 {
        match self.0.last() {
            Some(largest) if self.0.len() == KEPT => (KEPT as f64 - 1.0) / (*largest as f64 / u64::MAX as f64),
            _ => self.0.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_counted_exactly_and_many_nearly() {
        let count = |things: u64| {
            let mut set = Distinct::default();
            (0..2 * things).for_each(|thing| {
                set.add(thing % things.max(1));
            });
            set.count()
        };
        for things in [0, 1, 7, 255] {
            assert_eq!(count(things), things as f64);
        }
        for things in [300, 5_000, 100_000] {
            assert!((count(things) / things as f64 - 1.0).abs() < 0.2, "{} of {things}", count(things));
        }
    }
}
