//! `beaconing`: pairs of hosts whose connections come by a clock.
//!
//! `SELECT * FROM beaconing((SELECT time, src_ip, dst_ip, bytes_out FROM security_events))`. The observed span is from the first to the last event of the
//! relation; `connections_min` (default 10, at least 4) connections of source, target and port make a pair. Without bytes the
//! score is the mean of the other three. The method is the kernel `beaconing`.
//!
//! **Invariant:** a pair's scores depend on its connections and the observed span alone.

use juno_kernels::beaconing::{CONNECTIONS_MIN, score};
use juno_kernels::{Device, Error, Series};

use super::events::Events;
use super::told::{Told, evidence, number, text};
use super::{Behaviour, Constant, Kind, TIME, Unit, needed, optional, whole};

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "beaconing",
    columns: &[
        TIME,
        needed("source", Kind::Text, &["src_ip", "source", "src", "device_hostname"]),
        needed("target", Kind::Text, &["dst_ip", "target", "dst", "dst_domain"]),
        optional("bytes", Kind::Number, &["bytes_out", "bytes"]),
        optional("port", Kind::Text, &["dst_port", "port"]),
    ],
    either: &[],
    constants: &[Constant { name: "connections_min", unit: Unit::Whole, default: 10.0 }],
    entities: &["source", "target"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let least = (whole(constants[0]) as usize).max(CONNECTIONS_MIN);
    let (sources, targets, ports) = (events.ids("source"), events.ids("target"), events.ids("port"));
    let bytes = events.values("bytes");
    let key = |row: &usize| (sources[*row], targets[*row], ports[*row]);
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(key);
    let pairs: Vec<&[usize]> = order.chunk_by(|a, b| key(a) == key(b)).filter(|pair| pair.len() >= least).collect();
    let offsets: Vec<usize> = std::iter::once(0)
        .chain(pairs.iter().scan(0, |end, pair| {
            *end += pair.len();
            Some(*end)
        }))
        .collect();
    let times: Vec<f64> = pairs.iter().flat_map(|pair| pair.iter().map(|row| events.time(*row))).collect();
    let sizes: Vec<f64> = pairs.iter().flat_map(|pair| pair.iter().map(|row| bytes[*row])).collect();
    let (times, sizes) = (Series::new(&times, &offsets)?, Series::new(&sizes, &offsets)?);
    let span = if events.len() == 0 { (0.0, 0.0) } else { (events.time(0), events.time(events.len() - 1)) };
    let beacons = score(device, &times, &sizes, span)?;
    let told = pairs.iter().zip(beacons).enumerate().map(|(pair, (rows, beacon))| {
        let (times, sizes) = (times.get(pair), sizes.get(pair));
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let known: Vec<f64> = sizes.iter().copied().filter(|size| !size.is_nan()).collect();
        let rest = (beacon.interval + beacon.duration + beacon.histogram) / 3.0;
        let (score, size) = if known.is_empty() { (rest, f64::NAN) } else { (beacon.score, beacon.size) };
        let interval = median(gaps.clone());
        let port = events.text(ports[rows[0]]);
        Told {
            entities: [sources, targets].map(|column| events.text(column[rows[0]]).map(str::to_owned)).to_vec(),
            span: (times[0], times[times.len() - 1]),
            score,
            p_value: None,
            technique: technique(port),
            evidence: evidence([
                ("connections", number(times.len() as f64)),
                ("interval_s", number(interval)),
                ("jitter_s", number(median(gaps.iter().map(|gap| (gap - interval).abs()).collect()))),
                ("bytes", number(median(known))),
                ("port", text(port)),
                ("interval_score", number(beacon.interval)),
                ("size_score", number(size)),
                ("duration_score", number(beacon.duration)),
                ("histogram_score", number(beacon.histogram)),
            ]),
        }
    });
    Ok(told.collect())
}

/// T1071, Application Layer Protocol: .001 Web Protocols, .004 DNS.
fn technique(port: Option<&str>) -> &'static str {
    match port {
        Some("80" | "443" | "8080" | "8443") => "T1071.001",
        Some("53") => "T1071.004",
        _ => "T1071",
    }
}

/// NaN where there is no number.
fn median(mut numbers: Vec<f64>) -> f64 {
    let middle = numbers.len() / 2;
    if numbers.is_empty() { f64::NAN } else { *numbers.select_nth_unstable_by(middle, f64::total_cmp).1 }
}
