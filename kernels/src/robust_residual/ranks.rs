//! The distribution of a series' past residuals: a histogram that forgets, and the tail probability it gives a new one.
//!
//! Bins have eight equal parts per power of two, found from the bits of the number, so that both twins choose the same
//! bin. Below the highest tenth the probability is read off the histogram; above, it is a generalised Pareto tail
//! fitted to that tenth by moments (Pickands 1975; Hosking and Wallis 1987), but not below half of what the histogram
//! has beyond: what has happened repeatedly is not as rare as the tail says.
//!
//! **Invariant:** bounded size; no logarithm and no exponential decides about a bin.

/// How many bins there are.
pub(super) const BINS: usize = 208;
/// The bits of 2⁻⁶ without the lower 49 of the fraction: where the bins start. They end at 2²⁰.
const FIRST_BITS: u64 = (1_023 - 6) << 3;
/// Probability mass that the fitted tail stands for, at most.
const TAIL_SHARE: f64 = 0.1;
/// The lightest and the heaviest tail that is fitted.
const SHAPES: (f64, f64) = (-0.15, 0.4);
/// The smallest tail probability that is given.
pub(super) const TAIL_MIN: f64 = 1e-12;
/// How many points of an exponential distribution the histogram starts with.
const PRIOR_POINTS: f64 = 10.0;
/// The bin at 2⁵, where that distribution ends.
const PRIOR_BINS: usize = 88;
/// The weight of a new point grows by this factor from point to point: older ones fade.
const GROWTH: f64 = 1.0 + 1.0 / 4_000.0;
/// At this weight of a new point everything is scaled back.
const WEIGHT_MAX: f64 = 1e9;

/// The histogram before the first point: an exponential distribution of mean 1.
pub(super) fn prior() -> [f64; BINS] {
    let survival = |bin: usize| match bin {
        0 => 1.0,
        PRIOR_BINS.. => 0.0,
        _ => (-edge(bin)).exp(),
    };
    std::array::from_fn(|bin| PRIOR_POINTS * (survival(bin) - survival(bin + 1)))
}

/// The past residuals, each relative to its scale.
pub(super) struct Ranks {
    bins: [f64; BINS],
    total: f64,
    weight: f64,
    /// One past the highest bin that holds anything.
    end: usize,
}

impl Ranks {
    /// The distribution before the first point.
    pub(super) fn new(prior: &[f64; BINS]) -> Self {
        Self { bins: *prior, total: PRIOR_POINTS, weight: 1.0, end: PRIOR_BINS }
    }

    /// The probability of a residual at least as large as `u`.
    pub(super) fn tail(&self, u: f64) -> f64 {
        let (mut start, mut above) = (self.end, 0.0);
        while start > 1 && above + self.bins[start - 1] <= TAIL_SHARE * self.total {
            start -= 1;
            above += self.bins[start];
        }
        let place = bin(u);
        if place < start {
            let beyond = (place + 1..start).rev().fold(above, |sum, between| sum + self.bins[between]);
            let (low, high) = (if place == 0 { 0.0 } else { edge(place) }, edge(place + 1));
            let share = ((high - u) / (high - low)).clamp(0.0, 1.0);
            return ((beyond + self.bins[place] * share) / self.total).max(TAIL_MIN);
        }
        let beyond = (place + 1..self.end).rev().fold(0.0, |sum, farther| sum + self.bins[farther]);
        let seen = 0.5 * (beyond + 0.5 * self.bins[place]);
        (above * self.pareto(start, above, u - edge(start))).max(seen).max(TAIL_MIN * self.total) / self.total
    }

    /// The chance of an excess over the edge of bin `start` beyond `excess`, by the moments of the mass above it.
    fn pareto(&self, start: usize, above: f64, excess: f64) -> f64 {
        if above <= 0.0 {
            return 0.0;
        }
        let (mut first, mut second) = (0.0, 0.0);
        for place in start..self.end {
            let distance = 0.5 * (edge(place) + edge(place + 1)) - edge(start);
            first += self.bins[place] * distance;
            second += self.bins[place] * distance * distance;
        }
        let (mean, square) = (first / above, second / above);
        let variance = (square - mean * mean).max(1e-12);
        let shape = (0.5 * (1.0 - mean * mean / variance)).clamp(SHAPES.0, SHAPES.1);
        let scaled = excess / (mean * (1.0 - shape));
        if shape.abs() < 1e-9 { (-scaled).exp() } else { (-(shape * scaled).max(-1.0).ln_1p() / shape).exp() }
    }

    /// Takes one more residual into account.
    pub(super) fn learn(&mut self, u: f64) {
        let place = bin(u);
        self.bins[place] += self.weight;
        self.total += self.weight;
        self.end = self.end.max(place + 1);
        self.weight *= GROWTH;
        if self.weight > WEIGHT_MAX {
            self.bins.iter_mut().for_each(|mass| *mass /= self.weight);
            self.total /= self.weight;
            self.weight = 1.0;
        }
    }
}

/// The bin of `u` ≥ 0; what lies outside falls into the first or the last.
fn bin(u: f64) -> usize {
    let place = (u.to_bits() >> 49).saturating_sub(FIRST_BITS);
    usize::try_from(place).map_or(BINS - 1, |place| place.min(BINS - 1))
}

/// Where a bin starts; `edge(BINS)` is where the last ends.
fn edge(place: usize) -> f64 {
    f64::from_bits((FIRST_BITS + place as u64) << 49)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_residual_lies_in_the_bin_whose_edges_enclose_it() {
        for place in 0..BINS {
            assert_eq!(bin(edge(place)), place);
            assert_eq!(bin(edge(place + 1) * (1.0 - 1e-15)), place);
        }
        assert_eq!((bin(0.0), bin(1e-300), bin(1e300), bin(f64::INFINITY)), (0, 0, BINS - 1, BINS - 1));
    }

    #[test]
    fn the_tail_falls_from_one_to_its_floor() {
        let ranks = Ranks::new(&prior());
        let tails: Vec<f64> = (0..4_000).map(|i| ranks.tail(f64::from(i) * 0.01)).collect();
        assert!(tails[0] > 0.99 && tails[3_999] >= TAIL_MIN && tails[3_999] < 1e-6);
        assert!(tails.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12));
    }

    #[test]
    fn an_exponential_history_gives_exponential_tails() {
        let mut ranks = Ranks::new(&prior());
        for i in 0..4_000 {
            ranks.learn(-((f64::from(i * 1_597 % 4_000) + 0.5) / 4_000.0).ln());
        }
        for (u, expected) in [(0.5f64, 0.607), (2.0, 0.135), (4.0, 0.0183), (7.0, 9.1e-4)] {
            let tail = ranks.tail(u);
            assert!((tail / expected - 1.0).abs() < 0.25, "tail of {u}: {tail}, not {expected}");
        }
    }

    #[test]
    fn what_happens_again_and_again_is_not_rare() {
        let mut ranks = Ranks::new(&prior());
        for i in 0..2_000 {
            ranks.learn(if i % 50 == 0 { 1e5 } else { 0.0 });
        }
        assert!(ranks.tail(1e5) > 0.004, "{}", ranks.tail(1e5));
        assert!(ranks.tail(1e6) < 0.001, "{}", ranks.tail(1e6));
    }
}
