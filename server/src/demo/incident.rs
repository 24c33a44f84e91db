//! The incidents that the demo plants in its telemetry.
//!
//! **Invariant:** an incident changes one series between its start and its end and nothing else.

use std::fmt;

use chrono::DateTime;

const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Latency jumps and errors rise, for minutes.
    Spike,
    /// Memory leaks: CPU and latency creep up for hours. It goes on.
    Leak,
    /// A bad release: latency is on another level until it is rolled back.
    LevelShift,
    /// Requests fall to almost nothing and most of them fail.
    Outage,
}

/// One incident.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incident {
    pub(super) kind: Kind,
    pub(super) service: &'static str,
    pub(super) region: &'static str,
    pub(super) from_us: i64,
    /// None while it goes on.
    pub(super) to_us: Option<i64>,
}

/// What an incident does to a series: factors on requests, latency and errors, and points of CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effect {
    pub(super) requests: f64,
    pub(super) latency: f64,
    pub(super) errors: f64,
    pub(super) cpu_points: f64,
}

/// The demo's incidents, the spike first, as seen from `now_us`.
pub(super) fn plan(now_us: i64) -> [Incident; 4] {
    let at = |before_hours: i64| (now_us - before_hours * HOUR_US).div_euclid(5 * MINUTE_US) * 5 * MINUTE_US;
    let incident = |kind, service, region, before_hours, minutes: Option<i64>| {
        let from_us = at(before_hours);
        Incident { kind, service, region, from_us, to_us: minutes.map(|minutes| from_us + minutes * MINUTE_US) }
    };
    [
        incident(Kind::Spike, "checkout", "eu-west", 3, Some(25)),
        incident(Kind::Leak, "catalog", "us-east", 5, None),
        incident(Kind::LevelShift, "search", "us-east", 6 * 24, Some(14 * 60)),
        incident(Kind::Outage, "payments", "eu-west", 19 * 24, Some(50)),
    ]
}

impl Kind {
    /// Its name in `healing_incidents.incident_type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Spike => "latency_spike",
            Kind::Leak => "memory_leak",
            Kind::LevelShift => "latency_shift",
            Kind::Outage => "outage",
        }
    }

    /// The column that shows it best.
    pub(super) fn metric(self) -> &'static str {
        match self {
            Kind::Spike | Kind::LevelShift => "latency_ms",
            Kind::Leak => "cpu",
            Kind::Outage => "errors",
        }
    }
}

impl Incident {
    /// What it does to a series at a time; None where it does nothing.
    pub(super) fn effect(&self, service: &str, region: &str, time_us: i64) -> Option<Effect> {
        let here = service == self.service && region == self.region;
        if !here || time_us < self.from_us || self.to_us.is_some_and(|to| time_us >= to) {
            return None;
        }
        let hours = (time_us - self.from_us) as f64 / HOUR_US as f64;
        let effect = |requests, latency, errors, cpu_points| Effect { requests, latency, errors, cpu_points };
        Some(match self.kind {
            Kind::Spike => effect(1.0, 5.0, 25.0, 12.0),
            Kind::Leak => effect(1.0, 1.0 + 0.12 * hours, 1.0 + 0.3 * hours, 5.0 * hours),
            Kind::LevelShift => effect(1.0, 1.7, 2.0, 6.0),
            Kind::Outage => effect(0.03, 8.0, 300.0, -10.0),
        })
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute =
            |us: i64| DateTime::from_timestamp_micros(us).unwrap_or_default().format("%Y-%m-%d %H:%M").to_string();
        let to = self.to_us.map_or_else(|| "and goes on".to_owned(), |us| format!("to {}", minute(us)));
        write!(f, "{:<14} {:<9} {:<8}  from {} {to}", self.kind.name(), self.service, self.region, minute(self.from_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_touches_its_series_in_its_time_only() {
        let spike = plan(1_700_000_000_000_000)[0];
        let end = spike.to_us.unwrap();
        assert!(spike.effect("checkout", "eu-west", spike.from_us).is_some());
        assert!(spike.effect("checkout", "us-east", spike.from_us).is_none());
        assert!(spike.effect("checkout", "eu-west", spike.from_us - 1).is_none());
        assert!(spike.effect("checkout", "eu-west", end).is_none());
    }
}
