//! `exfiltration`: far more bytes out than an entity's own past and its peers let expect.
//!
//! `SELECT * FROM exfiltration((SELECT time, src_ip, bytes_out, dst_ip FROM security_events))`. Bytes are summed per source and `window` (default
//! 1 hour); told are `bytes_min` (default 1,000,000) bytes and more that are `deviations_min` (default 3) and more above
//! both. The method is the kernel `exfiltration`.
//!
//! **Invariant:** an hour without traffic teaches nothing.

use juno_kernels::behaviours::exfiltration::{Excess, Exfiltration, Params, Transfer};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::events::Events;
use super::told::{Told, evidence, number, text};
use super::{Behaviour, Constant, Kind, TIME, Unit, needed, optional};

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "exfiltration",
    columns: &[
        TIME,
        needed("source", Kind::Text, &["src_ip", "source", "src", "device_hostname", "actor_user"]),
        needed("bytes", Kind::Number, &["bytes_out", "bytes"]),
        optional("target", Kind::Text, &["dst_ip", "dst_domain", "target", "dst"]),
        optional("port", Kind::Text, &["dst_port", "port"]),
    ],
    either: &[],
    constants: &[
        Constant { name: "window", unit: Unit::Span, default: 3_600.0 },
        Constant { name: "bytes_min", unit: Unit::Number, default: 1e6 },
        Constant { name: "deviations_min", unit: Unit::Number, default: 3.0 },
    ],
    entities: &["source"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (sources, targets, bytes) = (events.ids("source"), events.ids("target"), events.values("bytes"));
    let transfer =
        |row: usize| Transfer { time: events.time(row), entity: sources[row], target: targets[row], bytes: bytes[row] };
    let transfers: Vec<Transfer> = (0..events.len()).map(transfer).collect();
    let params = Params { window_s: constants[0], bytes_min: constants[1], deviations_min: constants[2] };
    let found = stream(device, Exfiltration::new(params)?, &transfers)?;
    let told = found.into_iter().map(|found| {
        let port = port(events, &found);
        Told {
            entities: vec![events.text(found.entity).map(str::to_owned)],
            span: found.span,
            score: found.score,
            p_value: Some(found.p_value),
            technique: technique(port),
            evidence: evidence([
                ("bytes", number(found.bytes)),
                ("expected_bytes", number(found.expected)),
                ("deviations", number(found.deviations)),
                ("peer_deviations", number(found.peers)),
                ("windows_before", number(found.history)),
                ("targets", number(found.targets)),
                ("main_target", text(events.text(found.most.0))),
                ("main_target_share", number(found.most.1)),
                ("main_port", text(port)),
            ]),
        }
    });
    Ok(told.collect())
}

/// The port of the largest transfer to the main target.
fn port<'a>(events: &'a Events, found: &Excess) -> Option<&'a str> {
    let (sources, targets) = (events.ids("source"), events.ids("target"));
    let (bytes, ports) = (events.values("bytes"), events.ids("port"));
    let own = |row: &usize| sources[*row] == found.entity && targets[*row] == found.most.0 && bytes[*row] >= 0.0;
    let most = events.within(found.span).filter(own).max_by(|a, b| bytes[*a].total_cmp(&bytes[*b]));
    most.and_then(|row| events.text(ports[row]))
}

/// T1041, Exfiltration Over C2 Channel, where it went as web traffic does or nobody knows how; else T1048, Exfiltration Over
/// Alternative Protocol.
fn technique(port: Option<&str>) -> &'static str {
    match port {
        None | Some("80" | "443" | "8080" | "8443") => "T1041",
        Some(_) => "T1048",
    }
}
