//! Seeded pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
//!
//! **Invariant:** the numbers follow from the seed alone, on every machine and every number of threads.

/// A generator; equal seeds give equal numbers.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The generator of a seed and of a stream within it, such as the number of a tree.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mixed(seed ^ mixed(stream)))
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "a generator has no end, so that an Option would be noise")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// A number from 0 up to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A draw from the standard normal distribution (Box and Muller 1958; the second of the pair is dropped).
    pub fn normal(&mut self) -> f64 {
        let (radius, turn) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    }

    /// A number from 0 up to below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from((u128::from(self.next()) * end as u128) >> 64).expect("below a usize")
    }

    /// So many different numbers from 0 up to below `end`, ascending.
    pub fn choose(&mut self, count: usize, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        for at in 0..count.min(end) {
            let other = at + self.below(end - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }
}

/// One round of mixing: neighbouring numbers become unlike.
pub(crate) fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_and_choices_differ() {
        let mut random = SplitMix::new(1, 2);
        let mean = (0..10_000).map(|_| random.unit()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        let chosen = random.choose(5, 9);
        assert!(chosen.len() == 5 && chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen[4] < 9);
        let draws: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let (mean, square) = (draws.iter().sum::<f64>() / 2e4, draws.iter().map(|x| x * x).sum::<f64>() / 2e4);
        assert!(mean.abs() < 0.03 && (square - 1.0).abs() < 0.04, "{mean} {square}");
        assert_ne!(SplitMix::new(1, 3).next(), SplitMix::new(1, 2).next());
    }
}
