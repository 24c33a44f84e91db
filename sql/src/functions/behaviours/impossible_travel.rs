//! `impossible_travel`: one account in two places with less time between than a journey takes.
//!
//! `SELECT * FROM impossible_travel((SELECT time, actor_user, src_country, latitude, longitude FROM security_events))`. Needs coordinates or the
//! country. `speed_max` (default 900 km/h) is the fastest journey, `country_km` (default 1,000) the distance of two countries where
//! coordinates are missing. With a status only logons that succeeded count. The method is the kernel `impossible_travel`.
//!
//! **Invariant:** a journey is judged by what came before it.

use juno_kernels::behaviours::impossible_travel::{ImpossibleTravel, Params, Visit};
use juno_kernels::behaviours::run as stream;
use juno_kernels::{Device, Error};

use super::brute_force::failed;
use super::events::Events;
use super::told::{Told, evidence, number, text};
use super::{Behaviour, Constant, Kind, TIME, Unit, needed, optional};

pub(super) const BEHAVIOUR: Behaviour = Behaviour {
    name: "impossible_travel",
    columns: &[
        TIME,
        needed("account", Kind::Text, &["actor_user", "account", "user_name", "username", "user"]),
        optional("country", Kind::Text, &["src_country", "country"]),
        optional("latitude", Kind::Number, &["src_latitude", "latitude", "lat"]),
        optional("longitude", Kind::Number, &["src_longitude", "longitude", "lon"]),
        optional("radius_km", Kind::Number, &["src_radius_km", "radius_km"]),
        optional("status", Kind::Text, &["status_id", "status", "outcome", "success"]),
        optional("source", Kind::Text, &["src_ip", "source", "src"]),
    ],
    either: &[&["country"], &["latitude", "longitude"]],
    constants: &[
        Constant { name: "speed_max", unit: Unit::Number, default: 900.0 },
        Constant { name: "country_km", unit: Unit::Number, default: 1_000.0 },
    ],
    entities: &["account"],
    run,
};

fn run(device: &Device, events: &Events, constants: &[f64]) -> Result<Vec<Told>, Error> {
    let (users, countries) = (events.ids("account"), events.ids("country"));
    let [latitudes, longitudes, radii] = ["latitude", "longitude", "radius_km"].map(|column| events.values(column));
    let statuses = events.ids("status");
    let came_in = |row: &usize| events.text(statuses[*row]).is_none_or(|status| failed(status) == Some(false));
    let visit = |row: usize| Visit {
        time: events.time(row),
        user: users[row],
        latitude: latitudes[row],
        longitude: longitudes[row],
        radius_km: radii[row],
        country: countries[row],
    };
    let visits: Vec<Visit> = (0..events.len()).filter(came_in).map(visit).collect();
    let params = Params { speed_max: constants[0], country_km: constants[1] };
    let found = stream(device, ImpossibleTravel::new(params)?, &visits)?;
    let told = found.into_iter().map(|found| Told {
        entities: vec![events.text(found.user).map(str::to_owned)],
        span: (found.from.time, found.to.time),
        score: found.score,
        p_value: Some(found.p_value),
        technique: "T1078",
        evidence: evidence([
            ("km", number(found.km)),
            ("km_per_hour", number(found.km_per_hour)),
            ("minutes", number((found.to.time - found.from.time) / 60.0)),
            ("from_country", text(events.text(found.from.country))),
            ("to_country", text(events.text(found.to.country))),
            ("from_source", text(source(events, &found.from))),
            ("to_source", text(source(events, &found.to))),
            ("journeys_before", number(found.journeys)),
            ("as_fast_before", number(found.as_fast)),
        ]),
    });
    Ok(told.collect())
}

/// Where a visit came from.
fn source<'a>(events: &'a Events, visit: &Visit) -> Option<&'a str> {
    let (users, sources) = (events.ids("account"), events.ids("source"));
    let (latitudes, countries) = (events.values("latitude"), events.ids("country"));
    let is = |row: &usize| {
        let place = latitudes[*row].to_bits() == visit.latitude.to_bits() && countries[*row] == visit.country;
        users[*row] == visit.user && place
    };
    events.within((visit.time, visit.time)).find(is).and_then(|row| events.text(sources[row]))
}
