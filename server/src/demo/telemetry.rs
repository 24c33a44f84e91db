//! The demo's telemetry: requests, latency, CPU and errors of five services in three regions, with daily and weekly seasons,
//! growth, noise and incidents.
//!
//! **Invariant:** a value depends on its series, its time and the time of the start; nothing else.

use std::f64::consts::TAU;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use juno_sql::Incoming;

use super::incident::{Effect, Incident, plan};
use super::noise::{normal, slow, uniform};

/// The table of regular rows.
pub(super) const TABLE: &str = "service_metrics";
/// The table of live rows.
pub(super) const LIVE_TABLE: &str = "service_live";
/// The time between regular rows of a series.
pub(super) const STEP_US: i64 = 300_000_000;
const DAY_US: i64 = 86_400_000_000;
const DAYS: i64 = 28;
const NOISE_STEP_US: i64 = 5_000_000;

/// Name, requests per 5 minutes on an average day, latency in ms when idle.
const SERVICES: &[(&str, f64, f64)] = &[
    ("checkout", 2400.0, 85.0),
    ("search", 9000.0, 40.0),
    ("auth", 5200.0, 18.0),
    ("payments", 1500.0, 120.0),
    ("catalog", 7000.0, 30.0),
];
/// Name, share of the load, hours that its day is ahead of UTC.
const REGIONS: &[(&str, f64, f64)] = &[("eu-west", 1.0, 1.0), ("us-east", 1.4, -5.0), ("ap-south", 0.6, 5.5)];

/// The telemetry up to a moment.
pub(super) struct Telemetry {
    pub(super) now_us: i64,
    incidents: [Incident; 4],
}

struct Point {
    requests: i64,
    latency_ms: f64,
    cpu: f64,
    errors: i64,
}

impl Telemetry {
    pub(super) fn until(now_us: i64) -> Telemetry {
        Telemetry { now_us, incidents: plan(now_us) }
    }

    pub(super) fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    fn start_us(&self) -> i64 {
        self.end_us() - DAYS * DAY_US
    }

    /// The end of the regular rows that [`Telemetry::all`] gives: the start of the five minutes that are running.
    pub(super) fn end_us(&self) -> i64 {
        self.now_us.div_euclid(STEP_US) * STEP_US
    }

    /// Four weeks, one batch per series.
    pub(super) fn all(&self) -> Vec<Incoming> {
        let times: Vec<i64> = (self.start_us()..self.end_us()).step_by(STEP_US as usize).collect();
        series().map(|series| self.rows(&[series], &times, TABLE)).collect()
    }

    /// One row of every series.
    pub(super) fn at(&self, time_us: i64, table: &str) -> Incoming {
        self.rows(&series().collect::<Vec<_>>(), &[time_us], table)
    }

    fn rows(&self, all: &[(usize, usize)], times: &[i64], table: &str) -> Incoming {
        let keys: Vec<((usize, usize), i64)> =
            all.iter().flat_map(|series| times.iter().map(|time| (*series, *time))).collect();
        let points: Vec<Point> = keys.iter().map(|(series, time)| self.point(*series, *time)).collect();
        let services: DictionaryArray<Int32Type> = keys.iter().map(|((service, _), _)| SERVICES[*service].0).collect();
        let regions: DictionaryArray<Int32Type> = keys.iter().map(|((_, region), _)| REGIONS[*region].0).collect();
        let times =
            TimestampMicrosecondArray::from_iter_values(keys.iter().map(|(_, time)| *time)).with_timezone("+00:00");
        let columns: [(&str, ArrayRef); 7] = [
            ("time", Arc::new(times)),
            ("service", Arc::new(services)),
            ("region", Arc::new(regions)),
            ("requests", Arc::new(Int64Array::from_iter_values(points.iter().map(|point| point.requests)))),
            ("latency_ms", Arc::new(Float64Array::from_iter_values(points.iter().map(|point| point.latency_ms)))),
            ("cpu", Arc::new(Float64Array::from_iter_values(points.iter().map(|point| point.cpu)))),
            ("errors", Arc::new(Int64Array::from_iter_values(points.iter().map(|point| point.errors)))),
        ];
        let rows = RecordBatch::try_from_iter(columns).expect("all columns have one row per key");
        Incoming { table: table.into(), rows, time: "time".into(), tags: vec!["service".into(), "region".into()] }
    }

    fn point(&self, (service, region): (usize, usize), time_us: i64) -> Point {
        let ((name, base, idle_ms), (place, share, ahead)) = (SERVICES[service], REGIONS[region]);
        let series = (service * REGIONS.len() + region) as u64 + 1;
        let step = time_us.div_euclid(NOISE_STEP_US);
        let day = time_us as f64 / DAY_US as f64 + ahead / 24.0;
        let growth = 1.0 + 0.004 * (time_us - self.start_us()) as f64 / DAY_US as f64;
        let wander = slow(series, step, 2880, 1);
        let load = season(day) * growth * (1.0 + 0.03 * normal(series, step, 2) + 0.04 * wander);
        let effect = self.incidents.iter().find_map(|incident| incident.effect(name, place, time_us));
        let none = Effect { requests: 1.0, latency: 1.0, errors: 1.0, cpu_points: 0.0 };
        let effect = effect.unwrap_or(none);
        let requests = (base * share * load * effect.requests).max(0.0).round();
        let latency = idle_ms * (1.0 + 0.5 * load.powi(2)) * (0.06 * normal(series, step, 3) + 0.03 * wander).exp();
        let cpu = 12.0 + 34.0 * load + 1.5 * normal(series, step, 4) + effect.cpu_points;
        let failing = (0.002 * effect.errors * (0.3 * normal(series, step, 5)).exp()).min(0.9);
        let errors = (requests * failing + uniform(series, step, 6) - 0.5).max(0.0).round();
        Point {
            requests: requests as i64,
            latency_ms: rounded(latency * effect.latency),
            cpu: rounded(cpu.clamp(0.0, 100.0)),
            errors: errors as i64,
        }
    }
}

fn series() -> impl Iterator<Item = (usize, usize)> {
    (0..SERVICES.len()).flat_map(|service| (0..REGIONS.len()).map(move |region| (service, region)))
}

/// The load at a local time in days since 1970-01-01, a Thursday: around 1, low at night and at the weekend.
fn season(day: f64) -> f64 {
    let hour = day.rem_euclid(1.0);
    let daily = 1.0 - 0.45 * (TAU * (hour - 0.08)).cos() - 0.12 * (2.0 * TAU * (hour - 0.02)).cos();
    let weekday = (day + 3.0).rem_euclid(7.0);
    let weekend = ((weekday - 4.8) * 6.0).clamp(0.0, 1.0) * ((7.1 - weekday) * 6.0).clamp(0.0, 1.0);
    daily * (1.0 - 0.3 * weekend)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;

    use super::*;

    const NOW_US: i64 = 1_700_000_123_000_000;

    #[test]
    fn four_weeks_of_fifteen_series_come_out_the_same_every_time() {
        let all = Telemetry::until(NOW_US).all();
        assert_eq!(all.len(), 15);
        assert!(all.iter().all(|incoming| incoming.rows.num_rows() == 28 * 288));
        assert_eq!(all[4].rows, Telemetry::until(NOW_US).all()[4].rows);
    }

    #[test]
    fn days_differ_from_nights_and_weekends_from_working_days() {
        let noon_wednesday = season(6.5);
        assert!(noon_wednesday > 1.5 * season(6.1), "{noon_wednesday} {}", season(6.1));
        assert!(noon_wednesday > 1.2 * season(9.5), "{noon_wednesday} {}", season(9.5));
    }

    #[test]
    fn the_spike_stands_out_of_its_day() {
        let telemetry = Telemetry::until(NOW_US);
        let spike = telemetry.incidents()[0];
        let latency = |time: i64| telemetry.at(time, TABLE).rows["latency_ms"].as_primitive::<Float64Type>().value(0);
        assert!(latency(spike.from_us) > 3.0 * latency(spike.from_us - STEP_US));
        assert!(latency(spike.from_us) > 3.0 * latency(spike.to_us.unwrap()));
    }
}
