//! How fast the kernels run, without SQL around them: series, points and rows per second.
//!
//! Inputs are made here from a seed: series as long and as seasonal as those of M4 Hourly (700 and 960 points, days and weeks),
//! metrics of a week every ten minutes, 200 trees over 40 features. A kernel's time hangs on these shapes, not on the values.
//!
//! **Invariant:** measures one device at a time; on the CPU seconds are those of the processor, on a device those of a clock,
//! copies included.

use std::time::Instant;

use anyhow::Result;
use juno_kernels::seasonal_ar::Params;
use juno_kernels::seasonal_ensemble::{self, Model};
use juno_kernels::{Codes, Device, Series, oblivious_trees, record_ratio, robust_residual, seasonal_trend};

use crate::machine::threads_cpu_seconds;
use crate::measured::now;

/// Trees and features of the threat model.
pub const TREES: usize = 200;
/// See [`TREES`].
pub const FEATURES: usize = 40;
/// Runs of each measurement; the median counts.
const RUNS: usize = 5;
const HORIZON: usize = 48;

/// One line of the table.
pub struct Speed {
    /// What was measured.
    pub what: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many of them in a second.
    pub per_second: f64,
    /// How many a second are aimed at on one core of a CPU; 0 where nothing is.
    pub target: f64,
}

/// How much is measured at a time: a GPU wants more work than a core.
#[derive(Clone, Copy)]
pub struct Amounts {
    /// Series of the lean models and of the decomposition.
    pub series: usize,
    /// Series of the full ensemble.
    pub ensembles: usize,
    /// Metrics of the detectors, 1,008 points each.
    pub metrics: usize,
    /// Rows of the trees.
    pub rows: usize,
}

impl Amounts {
    /// For one core of a CPU: some seconds in all.
    pub const CORE: Amounts = Amounts { series: 414, ensembles: 24, metrics: 60, rows: 400_000 };
    /// For a GPU.
    pub const DEVICE: Amounts = Amounts { series: 41_400, ensembles: 2_070, metrics: 20_000, rows: 20_000_000 };
}

/// Measures everything on one device.
///
/// # Errors
/// Where a kernel refuses its parameters, or a device that was asked for by name fails.
pub fn measure(device: &Device, amounts: Amounts) -> Result<Vec<Speed>> {
    let params = Params { horizon: HORIZON, levels: &[0.95] };
    let (values, offsets) = hourly(amounts.series);
    let series = Series::new(&values, &offsets)?;
    let few = Series::new(&values[..offsets[amounts.ensembles]], &offsets[..=amounts.ensembles])?;
    let (metrics, metric_offsets) = ten_minutes(amounts.metrics);
    let points = Series::new(&metrics, &metric_offsets)?;
    let (trees, codes) = (trees(), codes(amounts.rows));
    let rows = Codes::new(&codes, amounts.rows, FEATURES)?;
    let forecast = |series: &Series, model| seasonal_ensemble::forecast(device, series, &params, model).map(|_| ());
    let speed = |what, unit, count: usize, target, work: &dyn Fn() -> juno_kernels::Result<()>| -> Result<Speed> {
        Ok(Speed { what, unit, per_second: count as f64 / median_seconds(device, work)?, target })
    };
    Ok(vec![
        speed("one autoregression", "series", series.len(), 5_000.0, &|| forecast(&series, Model::Ar))?,
        speed("lean forecast", "series", series.len(), 0.0, &|| forecast(&series, Model::Lean))?,
        speed("full ensemble", "series", few.len(), 40.0, &|| forecast(&few, Model::Full))?,
        speed("trend and seasons", "series", series.len(), 0.0, &|| {
            seasonal_trend::decompose(device, &series).map(|_| ())
        })?,
        speed("anomaly detector (record ratio)", "points", metrics.len(), 200_000.0, &|| {
            record_ratio::score(device, &points, None, &record_ratio::Params::default()).map(|_| ())
        })?,
        speed("anomaly detector (robust residual)", "points", metrics.len(), 200_000.0, &|| {
            robust_residual::score(device, &points, &robust_residual::Params::default()).map(|_| ())
        })?,
        speed("200 threat trees, 40 features", "rows", amounts.rows, 1e6, &|| {
            trees.margins(device, &rows).map(|_| ())
        })?,
    ])
}

/// The median seconds of several runs after one to warm up: of the processor, or of the clock where a device works.
fn median_seconds(device: &Device, work: &dyn Fn() -> juno_kernels::Result<()>) -> Result<f64> {
    work()?;
    let mut seconds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (start, cpu): (Instant, f64) = (now(), threads_cpu_seconds()?);
        work()?;
        let on_cpu = device.kind() == "cpu";
        seconds.push(if on_cpu { threads_cpu_seconds()? - cpu } else { start.elapsed().as_secs_f64() });
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[RUNS / 2])
}

/// Prints the table of one device.
pub fn print(device: &Device, speeds: &[Speed]) {
    let (name, seconds) = (device.name(), if device.kind() == "cpu" { "processor time" } else { "wall time" });
    println!("\n| kernel on {name} | per second ({seconds}) | target for one core |");
    println!("|---|---|---|");
    for Speed { what, unit, per_second, target } in speeds {
        let target = if *target > 0.0 { grouped(*target) } else { "–".to_owned() };
        println!("| {what} | {} {unit} | {target} |", grouped(*per_second));
    }
}

/// A number in groups of three digits, with one decimal below 100.
fn grouped(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Series as long and as seasonal as those of M4 Hourly.
fn hourly(count: usize) -> (Vec<f64>, Vec<usize>) {
    made(
        count,
        |i| if i.is_multiple_of(5) { 960 } else { 700 },
        |i, t| {
            let day = (std::f64::consts::TAU * t as f64 / 24.0 + i as f64).sin();
            let weekend = if (t / 24) % 7 >= 5 { -15.0 } else { 0.0 };
            100.0 + 30.0 * day + weekend + 0.01 * t as f64 + 4.0 * noise(i * 1_000 + t)
        },
    )
}

/// A week of metrics every ten minutes.
fn ten_minutes(count: usize) -> (Vec<f64>, Vec<usize>) {
    made(
        count,
        |_| 1_008,
        |i, t| {
            let spike = if (t + 37 * i).is_multiple_of(509) { 60.0 } else { 0.0 };
            50.0 + 20.0 * (std::f64::consts::TAU * t as f64 / 144.0).sin() + 3.0 * noise(i * 2_000 + t) + spike
        },
    )
}

/// Series one behind the other, and where each starts.
fn made(count: usize, length: impl Fn(usize) -> usize, value: impl Fn(usize, usize) -> f64) -> (Vec<f64>, Vec<usize>) {
    let (mut values, mut offsets) = (Vec::new(), vec![0]);
    for i in 0..count {
        values.extend((0..length(i)).map(|t| value(i, t)));
        offsets.push(values.len());
    }
    (values, offsets)
}

/// Trees of random questions.
fn trees() -> oblivious_trees::Trees {
    let tree = |i: usize| oblivious_trees::Tree {
        features: std::array::from_fn(|level| (bits(i * 64 + level) % FEATURES as u64) as u16),
        cuts: std::array::from_fn(|level| (bits(i * 64 + 8 + level) % 62) as u8),
        leaves: std::array::from_fn(|leaf| (bits(i * 64 + leaf + 100_000) % 2_000) as i16 - 1_000),
    };
    oblivious_trees::Trees { base: 0, features: FEATURES, trees: (0..TREES).map(tree).collect() }
}

/// Codes of random rows.
fn codes(rows: usize) -> Vec<u8> {
    (0..rows * FEATURES).map(|i| (bits(i) % 63) as u8).collect()
}

/// A fixed pseudo-random number in −1..1 for `i`.
fn noise(i: usize) -> f64 {
    (bits(i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Fixed pseudo-random bits for `i`.
fn bits(i: usize) -> u64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let shown = [0.25, 99.94, 100.0, 4_400.4, 1_234_567.0].map(grouped);
        assert_eq!(shown, ["0.2", "99.9", "100", "4,400", "1,234,567"]);
    }
}
