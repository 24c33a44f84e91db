//! Autocorrelation by the fast Fourier transform (radix 2, Cooley and Tukey 1965; Wiener–Khinchin).
//!
//! **Invariant:** plain f64 arithmetic in a fixed order; nothing but the roots of unity of usual sizes is kept between
//! calls.

use std::borrow::Cow;
use std::f64::consts::TAU;
use std::sync::OnceLock;

/// Roots are kept for sizes below 2 to this power, together a megabyte.
const KEPT_BITS: usize = 16;

/// The autocorrelation of `values` (of mean zero) at lags `0..lags`, each over the pairs there are at that lag and
/// relative to lag 0. `lags` is at most the number of values; a series that is all zero gives zeros.
pub(crate) fn autocorrelation(values: &[f64], lags: usize) -> Vec<f64> {
    let n = values.len();
    let size = (n + lags).next_power_of_two();
    let roots = roots(size);
    let mut re = vec![0.0; size];
    let mut im = vec![0.0; size];
    re[..n].copy_from_slice(values);
    transform(&mut re, &mut im, &roots);
    for (re, im) in re.iter_mut().zip(&mut im) {
        *re = *re * *re + *im * *im;
        *im = 0.0;
    }
    // A power spectrum is real and even: its forward transform is its inverse, up to the factor that the division
    // removes.
    transform(&mut re, &mut im, &roots);
    let total = re[0] / n as f64;
    (0..lags).map(|lag| if total > 0.0 { re[lag] / (n - lag) as f64 / total } else { 0.0 }).collect()
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
fn transform(re: &mut [f64], im: &mut [f64], roots: &Roots) {
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
            let (low_re, high_re) = re.split_at_mut(half);
            let (low_im, high_im) = im.split_at_mut(half);
            let high = high_re.iter_mut().zip(high_im);
            let low = low_re.iter_mut().zip(low_im);
            for (((high_re, high_im), (low_re, low_im)), (sin, cos)) in high.zip(low).zip(sines.iter().zip(cosines)) {
                let (a, b) = (*high_re * cos - *high_im * sin, *high_re * sin + *high_im * cos);
                (*high_re, *high_im) = (*low_re - a, *low_im - b);
                (*low_re, *low_im) = (*low_re + a, *low_im + b);
            }
        }
        half *= 2;
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
