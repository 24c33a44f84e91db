//! Recorded demand of four services as requests per second in slots of five seconds.
//!
//! A bin of a recording becomes a point in its middle and the slots between follow a line, as in the figures of the design notes;
//! where requests were counted, each slot draws its own Poisson count.
//!
//! **Invariant:** equal files and seeds give equal demand; a value that a recording lacks repeats the one before it.

use std::fs::read_to_string;
use std::path::Path;

use anyhow::{Context, Result};

use super::service::SLOT_S;

/// The first and the last day of WorldCup98 in the figures of the design notes; before them nearly nobody came.
const WORLD_CUP_DAYS: (usize, usize) = (38, 80);

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Its name in the tables.
    pub name: &'static str,
    /// Demand of each slot, in requests per second.
    pub demand: Vec<f64>,
}

/// The recordings of a folder. `step_shaped`: a bin's slots all have its value, instead of following a line.
///
/// # Errors
/// A file is missing or holds something else.
pub fn recordings(folder: &Path, seed: u64, step_shaped: bool) -> Result<Vec<Recording>> {
    let read = |file: &str, column: &str| column_of(&folder.join(file), column);
    let slots = |bins: &[f64], bin_s: usize, scale: f64| {
        let slots = if step_shaped { stepped(bins, bin_s) } else { interpolated(bins, bin_s) };
        slots.into_iter().map(|value| value * scale).collect::<Vec<f64>>()
    };
    let world_cup = counted(slots(&read("wc98_1min.csv", "requests_per_minute")?, 60, 1.0 / 60.0), seed);
    let alibaba = slots(&read("alibaba2018_machine_usage_30s.csv", "cpu_util_percent")?, 30, 10.0);
    let azure = slots(&read("azure_v2_vm_cpu_5min.csv", "cpu_usage")?, 300, 1e-3);
    let taxi = counted(slots(&read("nab_nyc_taxi_30min.csv", "value")?, 1800, 1.0 / 30.0), seed ^ 1);
    let day = 86_400 / SLOT_S;
    Ok(vec![
        Recording {
            name: "WorldCup98, days 38–80",
            demand: world_cup[WORLD_CUP_DAYS.0 * day..WORLD_CUP_DAYS.1 * day].to_vec(),
        },
        Recording { name: "WorldCup98, all 87 days", demand: world_cup },
        Recording { name: "Alibaba 2018", demand: alibaba },
        Recording { name: "Azure VM CPU", demand: azure },
        Recording { name: "NYC taxi", demand: taxi },
    ])
}

/// A column of a file with a header line.
fn column_of(file: &Path, column: &str) -> Result<Vec<f64>> {
    let text = read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mut lines = text.lines();
    let header = lines.next().context("a file has a header line")?;
    let place = header.split(',').position(|name| name == column);
    let place = place.with_context(|| format!("{} has no column {column}", file.display()))?;
    let mut values: Vec<f64> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let text = line.split(',').nth(place).unwrap_or_default();
        let value = if text.is_empty() { values.last().copied().unwrap_or(0.0) } else { text.parse()? };
        values.push(value);
    }
    Ok(values)
}

/// A line through the middles of the bins.
fn interpolated(bins: &[f64], bin_s: usize) -> Vec<f64> {
    let at = |slot: usize| {
        let place = ((slot * SLOT_S) as f64 + SLOT_S as f64 / 2.0) / bin_s as f64 - 0.5;
        let place = place.clamp(0.0, (bins.len() - 1) as f64);
        let left = (place as usize).min(bins.len().saturating_sub(2));
        let right = (left + 1).min(bins.len() - 1);
        bins[left] + (bins[right] - bins[left]) * (place - left as f64)
    };
    (0..bins.len() * bin_s / SLOT_S).map(at).collect()
}

fn stepped(bins: &[f64], bin_s: usize) -> Vec<f64> {
    bins.iter().flat_map(|&value| std::iter::repeat_n(value, bin_s / SLOT_S)).collect()
}

/// Poisson counts with these rates, as rates again.
fn counted(rates: Vec<f64>, seed: u64) -> Vec<f64> {
    let mut random = Random(seed);
    let slot_s = SLOT_S as f64;
    rates.into_iter().map(|rate| random.poisson(rate.max(0.05) * slot_s) / slot_s).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// From 0 up to below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A Poisson count; by the normal distribution where the mean is large.
    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 64.0 {
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
            return (mean + mean.sqrt() * normal).round().max(0.0);
        }
        let (mut count, mut product) = (0.0, 1.0 - self.unit());
        while product > (-mean).exp() {
            count += 1.0;
            product *= 1.0 - self.unit();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_mean_and_variance() {
        for mean in [0.5, 20.0, 900.0] {
            let mut random = Random(7);
            let counts: Vec<f64> = (0..20_000).map(|_| random.poisson(mean)).collect();
            let average = counts.iter().sum::<f64>() / 2e4;
            let variance = counts.iter().map(|count| (count - average).powi(2)).sum::<f64>() / 2e4;
            assert!(
                (average / mean - 1.0).abs() < 0.02 && (variance / mean - 1.0).abs() < 0.05,
                "{average} {variance}"
            );
        }
    }

    #[test]
    fn a_line_runs_through_the_middles_of_bins() {
        let slots = interpolated(&[0.0, 6.0], 30);
        assert_eq!(slots.len(), 12);
        assert!((slots[5] - 2.5).abs() < 1e-9 && slots[0] == 0.0 && slots[11] == 6.0, "{slots:?}");
    }
}
