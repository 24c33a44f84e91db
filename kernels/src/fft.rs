//! Autocorrelation by the fast Fourier transform (radix 2, Cooley and Tukey 1965; Wiener–Khinchin).
//!
//! **Invariant:** plain f64 arithmetic in a fixed order; nothing but the roots of unity of usual sizes is kept between
//! calls.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::sync::OnceLock;

use crate::device::{Loop, vectorised};

/// Roots are kept for sizes below 2 to this power, together a megabyte.
const KEPT_BITS: usize = 16;

/// The autocorrelation of `values` (of mean zero) at lags `0..lags`, each over the pairs there are at that lag and
/// relative to lag 0. `lags` is at most the number of values; a series that is all zero gives zeros.
///
/// Both transforms are of real numbers: two neighbours make one complex number, so that they take half the size.
pub(crate) fn autocorrelation(values: &[f64], lags: usize) -> Vec<f64> {
    let n = values.len();
    let size = (n + lags).next_power_of_two();
    let roots = roots(size);
    let (mut re, mut im) = (vec![0.0; size / 2], vec![0.0; size / 2]);
    let (pairs, last) = values.as_chunks::<2>();
    pairs.iter().enumerate().for_each(|(k, pair)| (re[k], im[k]) = (pair[0], pair[1]));
    last.iter().for_each(|last| re[pairs.len()] = *last);
    vectorised(Transform { re: &mut re, im: &mut im, roots: &roots });
    let power = |k: usize| {
        let (re, im) = of_reals(&re, &im, &roots, k);
        re * re + im * im
    };
    // A power spectrum is real and even: its forward transform is its inverse, up to the factor that the division
    // removes.
    let spectrum: Vec<f64> = (0..=size / 2).map(power).collect();
    let even = |k: usize| spectrum[k.min(size - k)];
    let (mut re, mut im): (Vec<f64>, Vec<f64>) = (0..size / 2).map(|k| (even(2 * k), even(2 * k + 1))).unzip();
    vectorised(Transform { re: &mut re, im: &mut im, roots: &roots });
    let sum = |lag: usize| of_reals(&re, &im, &roots, lag).0;
    let total = sum(0) / n as f64;
    (0..lags).map(|lag| if total > 0.0 { sum(lag) / (n - lag) as f64 / total } else { 0.0 }).collect()
}

/// Frequency `k`, up to half their number, of the real numbers whose pairs were transformed.
fn of_reals(re: &[f64], im: &[f64], roots: &Roots, k: usize) -> (f64, f64) {
    let half = re.len();
    let (at, mirror) = (k & (half - 1), (half - k) & (half - 1));
    let (even_re, even_im) = (0.5 * (re[at] + re[mirror]), 0.5 * (im[at] - im[mirror]));
    let (odd_re, odd_im) = (0.5 * (im[at] + im[mirror]), 0.5 * (re[mirror] - re[at]));
    let (sin, cos) = if k < half { (roots.sines[half - 1 + k], roots.cosines[half - 1 + k]) } else { (0.0, -1.0) };
    (even_re + cos * odd_re - sin * odd_im, even_im + cos * odd_im + sin * odd_re)
}

/// Sines and cosines of −2πk/(2·half) for k below half, for every stage behind each other: that of `half` starts at
/// `half − 1`, so that a stage reads them in order.
#[derive(Clone)]
struct Roots {
    sines: Vec<f64>,
    cosines: Vec<f64>,
}

/// The roots for transforms of this size.
fn roots(size: usize) -> Cow<'static, Roots> {
    static KEPT: [OnceLock<Roots>; KEPT_BITS] = [const { OnceLock::new() }; KEPT_BITS];
    let make = || {
        let halves = std::iter::successors(Some(1), |half| Some(2 * half)).take_while(|half| *half < size);
        let angle = |half: usize, k: usize| -TAU * k as f64 / (2 * half) as f64;
        let (sines, cosines) = halves.flat_map(|half| (0..half).map(move |k| angle(half, k).sin_cos())).unzip();
        Roots { sines, cosines }
    };
    match KEPT.get(size.trailing_zeros() as usize) {
        Some(kept) => Cow::Borrowed(kept.get_or_init(make)),
        None => Cow::Owned(make()),
    }
}

/// The forward transform in place.
struct Transform<'a> {
    re: &'a mut [f64],
    im: &'a mut [f64],
    roots: &'a Roots,
}

impl Loop for Transform<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { re, im, roots } = self;
        let size = re.len();
        let shift = usize::BITS - size.trailing_zeros();
        for i in 1..size {
            let j = i.reverse_bits() >> shift;
            if i < j {
                re.swap(i, j);
                im.swap(i, j);
            }
        }
        let mut half = 1;
        while half < size {
            let (sines, cosines) = (&roots.sines[half - 1..][..half], &roots.cosines[half - 1..][..half]);
            for (re, im) in re.chunks_exact_mut(2 * half).zip(im.chunks_exact_mut(2 * half)) {
                stage(re.split_at_mut(half), im.split_at_mut(half), sines, cosines);
            }
            half *= 2;
        }
    }
}

/// The butterflies between the low and the high half of a stretch.
#[inline(always)]
fn stage(
    (low_re, high_re): (&mut [f64], &mut [f64]),
    (low_im, high_im): (&mut [f64], &mut [f64]),
    sines: &[f64],
    cosines: &[f64],
) {
    let half = sines.len();
    let (low_re, high_re, low_im, high_im) =
        (&mut low_re[..half], &mut high_re[..half], &mut low_im[..half], &mut high_im[..half]);
    let cosines = &cosines[..half];
    for k in 0..half {
        let (sin, cos) = (sines[k], cosines[k]);
        let (a, b) = (high_re[k] * cos - high_im[k] * sin, high_re[k] * sin + high_im[k] * cos);
        (high_re[k], high_im[k]) = (low_re[k] - a, low_im[k] - b);
        (low_re[k], low_im[k]) = (low_re[k] + a, low_im[k] + b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_equals_the_sum_over_pairs() {
        let raw: Vec<f64> = (0..137).map(|i| f64::from(i * i % 31)).collect();
        let mean = raw.iter().sum::<f64>() / 137.0;
        let values: Vec<f64> = raw.iter().map(|v| v - mean).collect();
        let direct = |lag: usize| -> f64 {
            values.iter().zip(&values[lag..]).map(|(a, b)| a * b).sum::<f64>() / (137 - lag) as f64
        };
        for (lag, r) in autocorrelation(&values, 69).into_iter().enumerate() {
            assert!((r - direct(lag) / direct(0)).abs() < 1e-12, "lag {lag}");
        }
    }

    #[test]
    fn zeros_have_no_correlation() {
        assert_eq!(autocorrelation(&[0.0; 10], 5), [0.0; 5]);
    }
}
