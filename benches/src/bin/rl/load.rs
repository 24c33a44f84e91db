//! The loads that policies are trained and judged on.
//!
//! **Invariant:** a load is cut in two halves in time; the service is sized by the first.

use std::path::Path;

use anyhow::{Context, Result, bail};
use juno_sql::rl::simulator::load::{generated, resampled};
use juno_sql::rl::simulator::track::Track;
use juno_sql::rl::simulator::{EPOCH_SLOTS, Service};

/// Replicas that the mean load of the first half needs.
const REPLICAS: f64 = 20.0;
/// Days that are used of a long trace.
const DAYS_MAX: usize = 42;
const DAY_S: f64 = 86_400.0;

/// A load with its service.
pub(crate) struct Case {
    /// The load and the start-up time in words.
    pub name: String,
    /// The service.
    pub service: Service,
    /// The load.
    pub track: Track,
    /// The epoch at which the second half begins.
    pub half: usize,
}

/// The case of a load and a start-up time.
///
/// # Errors
/// Where the file cannot be read or the load is unknown.
pub(crate) fn case(folder: &Path, load: &str, startup_s: f64) -> Result<Case> {
    let from = |file: &str, column: usize, sample_s: f64, first_day: usize| -> Result<Vec<f64>> {
        let samples = column_of(&folder.join(file), column)?;
        let day = (DAY_S / sample_s) as usize;
        let samples: Vec<f64> = samples.into_iter().skip(first_day * day).take(DAYS_MAX * day).collect();
        let mean = samples.iter().sum::<f64>() / samples.len().max(1) as f64;
        // As many requests a second as make counting noise of the size that services of twenty replicas see.
        let scaled: Vec<f64> = samples.iter().map(|sample| sample / mean * 400.0).collect();
        Ok(resampled(&scaled, sample_s, 7)?)
    };
    let load_rps = match load {
        "worldcup98" => from("wc98_1min.csv", 1, 60.0, 38)?,
        "azure" => from("azure_v2_vm_cpu_5min.csv", 1, 300.0, 0)?,
        "alibaba" => from("alibaba2018_machine_usage_30s.csv", 0, 30.0, 0)?,
        "taxi" => from("nab_nyc_taxi_30min.csv", 1, 1_800.0, 0)?,
        "made" => generated(20, 11)?,
        other => bail!("there is no load {other}: use worldcup98, azure, alibaba, taxi or made"),
    };
    let half = load_rps.len() / EPOCH_SLOTS / 2;
    let first = &load_rps[..half * EPOCH_SLOTS];
    let service = Service::sized(first.iter().sum::<f64>() / first.len() as f64, REPLICAS, startup_s);
    let track = Track::new(load_rps, &service, half)?;
    Ok(Case { name: format!("{load}, {startup_s} s"), service, track, half })
}

/// A column of a CSV file with a header; an empty field repeats the one before.
fn column_of(path: &Path, column: usize) -> Result<Vec<f64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut values = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let field = line.split(',').nth(column).with_context(|| format!("'{line}' has no column {column}"))?;
        let last = values.last().copied().unwrap_or(0.0);
        values.push(if field.trim().is_empty() { last } else { field.trim().parse()? });
    }
    Ok(values)
}
