//! Autocorrelation by the fast Fourier transform (radix 2, Cooley and Tukey 1965; Wiener–Khinchin).
//!
//! **Invariant:** plain f64 arithmetic in a fixed order; no plan is kept between calls.

use std::f64::consts::TAU;

/// The autocorrelation of `values` (of mean zero) at lags `0..lags`, each over the pairs there are at that lag and
/// relative to lag 0. `lags` is at most the number of values; a series that is all zero gives zeros.
pub(crate) fn autocorrelation(values: &[f64], lags: usize) -> Vec<f64> {
    let n = values.len();
    let size = (n + lags).next_power_of_two();
    let twiddles: Vec<(f64, f64)> = (0..size / 2).map(|k| (-TAU * k as f64 / size as f64).sin_cos()).collect();
    let mut re = vec![0.0; size];
    let mut im = vec![0.0; size];
    re[..n].copy_from_slice(values);
    transform(&mut re, &mut im, &twiddles);
    for (re, im) in re.iter_mut().zip(&mut im) {
        *re = *re * *re + *im * *im;
        *im = 0.0;
    }
    // A power spectrum is real and even: its forward transform is its inverse, up to the factor that the division
    // removes.
    transform(&mut re, &mut im, &twiddles);
    let total = re[0] / n as f64;
    (0..lags).map(|lag| if total > 0.0 { re[lag] / (n - lag) as f64 / total } else { 0.0 }).collect()
}

/// The forward transform in place. `twiddles` holds (sin, cos) of −2πk/size for the first half of the circle.
fn transform(re: &mut [f64], im: &mut [f64], twiddles: &[(f64, f64)]) {
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
        let stride = size / (2 * half);
        for start in (0..size).step_by(2 * half) {
            let (low_re, high_re) = re[start..start + 2 * half].split_at_mut(half);
            let (low_im, high_im) = im[start..start + 2 * half].split_at_mut(half);
            for k in 0..half {
                let (sin, cos) = twiddles[k * stride];
                let (a, b) = (high_re[k] * cos - high_im[k] * sin, high_re[k] * sin + high_im[k] * cos);
                (high_re[k], high_im[k]) = (low_re[k] - a, low_im[k] - b);
                (low_re[k], low_im[k]) = (low_re[k] + a, low_im[k] + b);
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
