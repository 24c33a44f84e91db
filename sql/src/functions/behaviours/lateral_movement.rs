//! `lateral_movement`: a host or user that reaches out to hosts it never talked to, more than in its past.
//!
//! `SELECT * FROM lateral_movement((SELECT time, src_ip, dst_ip FROM security_events WHERE dst_port IN (22, 445, 3389, 5985)))`. The first
//! `learn` (default 1 day) of the events only teach; first-seen edges are counted per source and `window` (default 1 hour) and
//! told from `edges_min` (default 2) on. The method is the kernel `lateral_movement`.
//!
//! **Invariant:** a source is held against its own past, and that of all as far as its own is short.

use juno_kernels::behaviours::lateral_movement::{Contact, LateralMovement, Params};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::events::Events;
use super::told::{Told, evidence, number, text};
use super::{Behaviour, Constant, DAY_S, Kind, TIME, Unit, needed, whole};
use crate::jsonb::Json;

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "lateral_movement",
    columns: &[
        TIME,
        needed("source", Kind::Text, &["src_ip", "source", "src", "actor_user"]),
        needed("target", Kind::Text, &["dst_ip", "target", "dst", "device_hostname"]),
    ],
    either: &[],
    constants: &[
        Constant { name: "window", unit: Unit::Span, default: 3_600.0 },
        Constant { name: "learn", unit: Unit::Span, default: DAY_S },
        Constant { name: "edges_min", unit: Unit::Whole, default: 2.0 },
    ],
    entities: &["source"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (sources, targets) = (events.ids("source"), events.ids("target"));
    let contact = |row: usize| Contact { time: events.time(row), source: sources[row], target: targets[row] };
    let contacts: Vec<Contact> = (0..events.len()).map(contact).collect();
    let params = Params { window_s: constants[0], learn_s: constants[1], edges_min: whole(constants[2]) };
    let found = stream(device, LateralMovement::new(params)?, &contacts)?;
    let told = found.into_iter().map(|found| Told {
        entities: vec![events.text(found.source).map(str::to_owned)],
        span: found.span,
        score: found.score,
        p_value: Some(found.p_value),
        technique: "T1021",
        evidence: evidence([
            ("new_edges", number(found.edges)),
            ("expected_new_edges", number(found.expected)),
            ("targets", number(found.targets)),
            ("expected_targets", number(found.targets_expected)),
            ("hops", number(found.hops)),
            ("first_seen", Json::Array(found.named.iter().map(|id| text(events.text(*id))).collect())),
        ]),
    });
    Ok(told.collect())
}
