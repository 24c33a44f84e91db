//! What ails a service whose metric moved, where the metric's name says so.
//!
//! The metrics of the table `fleet_health` are known. Of others the name is read in small letters, with `_` for all that is no
//! letter and no digit; the first rule of [`NAMES`] with a part that stands at the beginning of a word decides. A name says what a
//! metric measures, and how it moved whether that is ill: means before and during the incident must differ as the rule asks.
//!
//! | metric | cause | moved |
//! |---|---|---|
//! | errors, failures, exceptions, 5xx | `errors` | up by half, and by 0.03 |
//! | latency, duration, response time | `slow` | doubled |
//! | memory, heap, rss; not what is free, a limit or a total | `memory_leak` | up by 15 % |
//! | disk or file system, as a share or in per cent; not what is free | `disk_full` | up, to 85 % or more |
//! | up, alive, healthy, checks passed | `process_down` | down to half or less |
//!
//! **Invariant:** what no rule knows, and what moved the other way, is no cause.

use crate::ops::healing::HEALTH;
use crate::ops::healing::policy::cause::Cause;

/// Whether means before and during an incident tell of something ill.
type Moved = fn(before: f64, during: f64) -> bool;

/// The metrics of [`HEALTH`].
const FLEET: [(&str, Cause, Moved); 10] = [
    ("call_error_share", Cause::DependencyDown, fails),
    ("disk_share", Cause::DiskFull, full),
    ("error_excess", Cause::Errors, fails),
    ("error_share", Cause::Errors, fails),
    ("healthy", Cause::ProcessDown, fell),
    ("latency_ms", Cause::Slow, doubled),
    ("latency_ratio", Cause::Slow, doubled),
    ("memory_ratio", Cause::MemoryLeak, grew),
    ("requests", Cause::Saturation, doubled),
    ("rss_mb", Cause::MemoryLeak, grew),
];

/// What a name says.
struct Rule {
    /// One of these is in it.
    parts: &'static [&'static str],
    /// None of these is.
    without: &'static [&'static str],
    /// One of these is too, where there are any.
    with: &'static [&'static str],
    cause: Cause,
    moved: Moved,
}

const FREE: &[&str] = &["free", "avail", "limit", "total"];
const SHARES: &[&str] = &["_share", "_percent", "_pct", "_ratio", "_utilisation", "_utilization"];
const NAMES: [Rule; 5] = [
    Rule {
        parts: &["_err", "_failed", "_failure", "_exception", "_5xx"],
        without: &[],
        with: &[],
        cause: Cause::Errors,
        moved: fails,
    },
    Rule {
        parts: &["_latency", "_duration", "_response_time"],
        without: &[],
        with: &[],
        cause: Cause::Slow,
        moved: doubled,
    },
    Rule {
        parts: &["_mem_", "_memory", "_heap", "_rss"],
        without: FREE,
        with: &[],
        cause: Cause::MemoryLeak,
        moved: grew,
    },
    Rule { parts: &["_disk", "_filesystem"], without: FREE, with: SHARES, cause: Cause::DiskFull, moved: full },
    Rule {
        parts: &["_up_", "_alive_", "_healthy_", "_checks_passed_"],
        without: &[],
        with: &[],
        cause: Cause::ProcessDown,
        moved: fell,
    },
];

/// What ails a service whose metric had these means before and during an incident.
pub(super) fn of(metric: &str, before: f64, during: f64) -> Option<Cause> {
    let own = metric.strip_prefix(HEALTH).and_then(|rest| rest.strip_prefix('.'));
    let (cause, moved) = match own {
        Some(column) => FLEET.iter().find(|(name, ..)| *name == column).map(|(_, cause, moved)| (*cause, *moved))?,
        None => named(metric)?,
    };
    moved(before, during).then_some(cause)
}

fn named(metric: &str) -> Option<(Cause, Moved)> {
    let words: String =
        metric.to_lowercase().chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' }).collect();
    let name = format!("_{words}_");
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let rule = NAMES.iter().find(|rule| has(rule.parts))?;
    let is_meant = !has(rule.without) && (rule.with.is_empty() || has(rule.with));
    is_meant.then_some((rule.cause, rule.moved))
}

fn fails(before: f64, during: f64) -> bool {
    during - before >= 0.03 && during >= 1.5 * before
}

fn doubled(before: f64, during: f64) -> bool {
    during > before && during >= 2.0 * before
}

fn grew(before: f64, during: f64) -> bool {
    during > before && during >= 1.15 * before
}

fn full(before: f64, during: f64) -> bool {
    let share = if during > 1.0 { during / 100.0 } else { during };
    during > before && (0.85..=1.0).contains(&share)
}

fn fell(before: f64, during: f64) -> bool {
    before > 0.0 && during <= 0.5 * before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_moves_tell_the_cause() {
        let cases = [
            ("fleet_health.healthy", 1.0, 0.0, Some(Cause::ProcessDown)),
            ("fleet_health.call_error_share", 0.0, 0.6, Some(Cause::DependencyDown)),
            ("fleet_health.requests", 10.0, 35.0, Some(Cause::Saturation)),
            ("fleet_health.unknown", 1.0, 9.0, None),
            ("web.http_errors", 1.0, 40.0, Some(Cause::Errors)),
            ("web.errorRate", 0.01, 0.02, None),
            ("disk_read_errors_total", 0.0, 7.0, Some(Cause::Errors)),
            ("http.server.request.duration", 20.0, 90.0, Some(Cause::Slow)),
            ("web.latency_p99", 50.0, 20.0, None),
            ("jvm_memory_used_bytes", 1e9, 2e9, Some(Cause::MemoryLeak)),
            ("node_memory_MemFree_bytes", 1e9, 2e9, None),
            ("members.count", 1.0, 9.0, None),
            ("system.disk_used_percent", 60.0, 97.0, Some(Cause::DiskFull)),
            ("system.disk_used_bytes", 60.0, 97.0, None),
            ("disk_share", 0.5, 0.7, None),
            ("up", 1.0, 0.1, Some(Cause::ProcessDown)),
            ("uptime", 100.0, 1.0, None),
            ("health.cpu", 9.0, 1.0, None),
            ("load.cpu", 1.0, 9.0, None),
            ("web.latency", f64::NAN, 9.0, None),
        ];
        for (metric, before, during, wanted) in cases {
            assert_eq!(of(metric, before, during), wanted, "{metric}");
        }
    }
}
