//! `brute_force`: far more failed logons in a row than somebody who mistypes makes.
//!
//! `SELECT * FROM brute_force((SELECT time, src_ip, actor_user, status_id, device_hostname FROM security_events WHERE class_uid = 3002))`. An
//! episode ends after a `pause` (default 10 minutes) without failure and is told from `failures_min` (default 5) on. Without a
//! source in a row, several sources guessed one account together. The method is the kernel `failed_logons`.
//!
//! **Invariant:** a status that says neither success nor failure makes no event.

use juno_kernels::behaviours::failed_logons::{BruteForce, Logon, Params};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::events::Events;
use super::told::{Told, evidence, number, text};
use super::{Behaviour, Column, Constant, Kind, TIME, Unit, needed, optional, whole};

/// The columns of a logon.
pub(super) const LOGON: [Column; 5] = [
    TIME,
    needed("source", Kind::Text, &["src_ip", "source", "src"]),
    needed("account", Kind::Text, &["actor_user", "account", "user_name", "username", "user"]),
    needed("status", Kind::Text, &["status_id", "status", "outcome", "success"]),
    optional("target", Kind::Text, &["device_hostname", "dst_ip", "target", "host", "dst"]),
];

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "brute_force",
    columns: &LOGON,
    either: &[],
    constants: &[
        Constant { name: "pause", unit: Unit::Span, default: 600.0 },
        Constant { name: "failures_min", unit: Unit::Whole, default: 5.0 },
    ],
    entities: &["source", "target", "account"],
    run,
};

/// The rows as logons.
pub(super) fn logons(events: &Events) -> Vec<Logon> {
    let (sources, accounts) = (events.ids("source"), events.ids("account"));
    let (statuses, targets) = (events.ids("status"), events.ids("target"));
    let logon = |row: usize| {
        let failed = failed(events.text(statuses[row])?)?;
        let (source, target, account) = (sources[row], targets[row], accounts[row]);
        Some(Logon { time: events.time(row), source, target, account, failed })
    };
    (0..events.len()).filter_map(logon).collect()
}

/// Whether a status is a failure: OCSF's numbers, words, or whether it was a success.
pub(super) fn failed(status: &str) -> Option<bool> {
    match status.trim().to_ascii_lowercase().as_str() {
        "2" | "failure" | "failed" | "fail" | "denied" | "false" | "f" | "no" => Some(true),
        "1" | "success" | "succeeded" | "accepted" | "ok" | "true" | "t" | "yes" => Some(false),
        _ => None,
    }
}

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let params = Params { pause_s: constants[0], failures_min: whole(constants[1]) };
    let found = stream(device, BruteForce::new(params)?, &logons(events))?;
    let name = |id: u32| events.text(id).map(str::to_owned);
    let told = found.into_iter().map(|found| Told {
        entities: vec![found.source.and_then(name), name(found.target), name(found.account)],
        span: found.span,
        score: found.score,
        p_value: Some(found.p_value),
        technique: "T1110.001",
        evidence: evidence([
            ("failures", number(found.failures)),
            ("accounts", number(found.accounts)),
            ("sources", number(found.sources)),
            ("succeeded", text(found.succeeded.and_then(|id| events.text(id)))),
            ("per_minute", number(per_minute(f64::from(found.failures), found.span))),
        ]),
    });
    Ok(told.collect())
}

/// How often a minute, from the first to the last of several.
fn per_minute(count: f64, span: (f64, f64)) -> f64 {
    (count - 1.0) / ((span.1 - span.0) / 60.0).max(1.0 / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_of_ocsf_or_words() {
        for (status, is) in [
            ("2", Some(true)),
            (" Failure", Some(true)),
            ("false", Some(true)),
            ("1", Some(false)),
            ("Accepted", Some(false)),
            ("0", None),
            ("99", None),
        ] {
            assert_eq!(failed(status), is, "{status}");
        }
    }
}
