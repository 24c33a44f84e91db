//! `dns_tunnelling`: one client that carries data in the names below one domain.
//!
//! `SELECT * FROM dns_tunnelling((SELECT time, src_ip, dns_query FROM security_events WHERE class_uid = 4003))`. Queries are taken together per client,
//! registered domain and `window` (default 1 hour) and told from `names_min` (default 10) different names on. `type` is the record type, by name or
//! number. The method is the kernel `dns_tunnelling`.
//!
//! **Invariant:** case and a last dot of a name do not matter.

use std::collections::BTreeMap;

use juno_kernels::behaviours::dns_tunnelling::{DnsTunnelling, Name, Params, Query, is_carrier, split};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::events::Events;
use super::told::{Told, evidence, number};
use super::{Behaviour, Constant, Kind, TIME, Unit, needed, optional, whole};

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "dns_tunnelling",
    columns: &[
        TIME,
        needed("client", Kind::Text, &["src_ip", "client", "source", "src", "device_hostname"]),
        needed("query", Kind::Text, &["dns_query", "query", "dst_domain"]),
        optional("type", Kind::Text, &["dns_type", "query_type", "qtype_name", "qtype"]),
    ],
    either: &[],
    constants: &[
        Constant { name: "window", unit: Unit::Span, default: 3_600.0 },
        Constant { name: "names_min", unit: Unit::Whole, default: 10.0 },
    ],
    entities: &["client", "domain"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (clients, names, types) = (events.ids("client"), events.ids("query"), events.ids("type"));
    let mut known: BTreeMap<u32, Option<(String, Option<Name>)>> = BTreeMap::new();
    for id in names {
        known.entry(*id).or_insert_with(|| {
            let (name, domain) = split(events.text(*id)?)?;
            Some((domain.to_ascii_lowercase(), Name::new(name)))
        });
    }
    let mut domains: Vec<&str> = known.values().flatten().map(|(domain, _)| domain.as_str()).collect();
    domains.sort_unstable();
    domains.dedup();
    let measured: BTreeMap<u32, (u32, Option<Name>)> = known
        .iter()
        .filter_map(|(id, cut)| {
            let (domain, name) = cut.as_ref()?;
            Some((*id, (domains.binary_search(&domain.as_str()).ok()? as u32, *name)))
        })
        .collect();
    let query = |row: usize| {
        let (domain, name) = *measured.get(&names[row])?;
        Some(Query {
            time: events.time(row),
            client: clients[row],
            domain,
            name,
            carrier: events.text(types[row]).map(is_carrier),
        })
    };
    let queries: Vec<Query> = (0..events.len()).filter_map(query).collect();
    let params = Params { window_s: constants[0], names_min: whole(constants[1]) };
    let found = stream(device, DnsTunnelling::new(params)?, &queries)?;
    let told = found.into_iter().map(|found| Told {
        entities: vec![events.text(found.client).map(str::to_owned), Some(domains[found.domain as usize].to_owned())],
        span: found.span,
        score: found.score,
        p_value: Some(found.p_value),
        technique: "T1071.004",
        evidence: evidence([
            ("queries", number(found.queries)),
            ("names", number(found.names)),
            ("unique_ratio", number(found.names / f64::from(found.queries.max(1)))),
            ("mean_length", number(found.length)),
            ("mean_entropy_bits", number(found.entropy)),
            ("carrier_share", number(found.carriers)),
            ("information_bytes", number(found.information)),
            ("clients", number(found.clients)),
        ]),
    });
    Ok(told.collect())
}
