//! Impossible travel: one account in two places with less time between than a journey takes (ATT&CK T1078, Valid Accounts).
//!
//! **Formula.** Between successive logons of a user, with d the great-circle distance (haversine, R = 6,371.0088 km) less the
//! uncertainty of both places, but not below 0, and t the time between, but not below one minute: speed v = d / t in km/h.
//! Where a place has no coordinates, two different countries are `country_km` apart and the same country 0.
//! score = v² / (v² + v₀²), v₀ = `speed_max`: one half at the speed of an airliner. The p-value is the share of journeys
//! that were as fast: with c of n own past journeys at least as fast and the share P of all users' journeys (see `ranks`),
//! p = (c + 10·P) / (n + 10). Who often jumps between exits of a private network has a large p-value, in spite of the speed.
//!
//! **Rules.** Logons without user, or with neither coordinates nor country, are passed over. Latitudes outside ±90° and longitudes outside
//! ±360° are no coordinates. A missing or negative radius is 0. Equal logons at one place are journeys of 0 km. Only what is
//! faster than `speed_max` is told.
//!
//! **Source.** Sinnott, *Virtues of the Haversine*, 1984; the ranks are conformal (Vovk et al. 2005).
//!
//! **Invariant:** a journey is told when its second logon comes.

use super::kept::Kept;
use super::ranks::Ranks;
use super::{Behaviour, ENTITIES_MAX, UNKNOWN, positive};
use crate::Result;

/// Mean radius of the earth in km.
const EARTH_KM: f64 = 6_371.008_8;
/// The shortest time between two logons that counts, in hours.
const HOURS_MIN: f64 = 1.0 / 60.0;
/// Journeys that those of all users weigh like.
const BACK_OFF: f64 = 10.0;
/// Upper ends of the classes of a user's own speeds, in km/h.
const CLASSES: [f64; 12] =
    [1.0, 50.0, 200.0, 500.0, 900.0, 1_500.0, 2_500.0, 4_000.0, 8_000.0, 16_000.0, 64_000.0, 256_000.0];

/// A logon at a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// Seconds since 1970.
    pub time: f64,
    /// Who.
    pub user: u32,
    /// Degrees north; NaN where unknown.
    pub latitude: f64,
    /// Degrees east; NaN where unknown.
    pub longitude: f64,
    /// How far from there it may have been, in km; NaN is 0.
    pub radius_km: f64,
    /// The country, or [`UNKNOWN`].
    pub country: u32,
}

/// What counts as impossible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// The fastest journey, in km/h.
    pub speed_max: f64,
    /// How far apart two countries are where coordinates are missing.
    pub country_km: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { speed_max: 900.0, country_km: 1_000.0 }
    }
}

/// A journey that was too fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Journey {
    /// Who.
    pub user: u32,
    /// The logon before.
    pub from: Visit,
    /// The logon after.
    pub to: Visit,
    /// The least distance between the two.
    pub km: f64,
    /// Its speed.
    pub km_per_hour: f64,
    /// Journeys of this user before.
    pub journeys: u32,
    /// Those of them as fast as this one, by class of speed.
    pub as_fast: u32,
    /// The share of journeys that are as fast.
    pub p_value: f64,
    /// 0 to below 1, one half at the greatest speed.
    pub score: f64,
}

#[derive(Clone, Debug)]
struct User {
    last: Visit,
    classes: [u32; CLASSES.len() + 1],
}

/// Told from a stream of logons.
#[derive(Clone, Debug)]
pub struct ImpossibleTravel {
    params: Params,
    users: Kept<u32, User>,
    speeds: Ranks,
    now: f64,
    found: Vec<Journey>,
}

impl ImpossibleTravel {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the greatest speed of travel", params.speed_max)?;
        positive("the distance between countries", params.country_km)?;
        let users = Kept::new(ENTITIES_MAX);
        Ok(Self { params, users, speeds: Ranks::new(), now: f64::NEG_INFINITY, found: Vec::new() })
    }
}

impl Params {
    /// The least distance between two places.
    fn km(&self, from: &Visit, to: &Visit) -> f64 {
        match (place(from), place(to)) {
            (Some(a), Some(b)) => (great_circle_km(a, b) - radius(from) - radius(to)).max(0.0),
            _ if from.country != UNKNOWN && to.country != UNKNOWN && from.country != to.country => self.country_km,
            _ => 0.0,
        }
    }
}

/// The distance of two places, given as degrees north and east.
#[must_use]
pub fn great_circle_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [(north_a, east_a), (north_b, east_b)] = [a, b].map(|(north, east)| (north.to_radians(), east.to_radians()));
    let half = |angle: f64| (angle / 2.0).sin().powi(2);
    let h = half(north_b - north_a) + north_a.cos() * north_b.cos() * half(east_b - east_a);
    2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
}

fn place(visit: &Visit) -> Option<(f64, f64)> {
    let on_earth = visit.latitude.abs() <= 90.0 && visit.longitude.abs() <= 360.0;
    on_earth.then_some((visit.latitude, visit.longitude))
}

fn radius(visit: &Visit) -> f64 {
    visit.radius_km.max(0.0)
}

impl Behaviour for ImpossibleTravel {
    type Event = Visit;
    type Finding = Journey;

    fn time(event: &Visit) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Visit) {
        self.now = self.now.max(event.time);
        if event.user == UNKNOWN || (place(event).is_none() && event.country == UNKNOWN) {
            return;
        }
        let to = Visit { time: self.now, ..*event };
        self.users.make_room(&to.user);
        let before = self.users.get(&to.user).map(|user| user.last);
        let user = self.users.at(to.user, to.time, || User { last: to, classes: [0; CLASSES.len() + 1] });
        let Some(from) = before else { return };
        user.last = to;
        let km = self.params.km(&from, &to);
        let speed = km / ((to.time - from.time) / 3_600.0).max(HOURS_MIN);
        let impossible = speed > self.params.speed_max;
        let all = if impossible { self.speeds.p_value(speed) } else { 1.0 };
        self.speeds.learn(speed);
        let class = CLASSES.partition_point(|end| *end < speed);
        let (journeys, as_fast) = (user.classes.iter().sum::<u32>(), user.classes[class..].iter().sum::<u32>());
        user.classes[class] = user.classes[class].saturating_add(1);
        if !impossible {
            return;
        }
        let ratio = (self.params.speed_max / speed).powi(2);
        self.found.push(Journey {
            user: to.user,
            from,
            to,
            km,
            km_per_hour: speed,
            journeys,
            as_fast,
            p_value: (f64::from(as_fast) + BACK_OFF * all) / (f64::from(journeys) + BACK_OFF),
            score: 1.0 / (1.0 + ratio),
        });
    }

    fn finish(&mut self) {}

    fn take(&mut self) -> Vec<Journey> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;
    use crate::{Device, Error};

    const BERLIN: (f64, f64) = (52.52, 13.405);
    const SYDNEY: (f64, f64) = (-33.8688, 151.2093);
    const HOUR: f64 = 3_600.0;

    fn found(events: &[Visit]) -> Vec<Journey> {
        run(&Device::cpu(), ImpossibleTravel::new(Params::default()).unwrap(), events).unwrap()
    }

    fn at(user: u32, hours: f64, (latitude, longitude): (f64, f64)) -> Visit {
        Visit { time: hours * HOUR, user, latitude, longitude, radius_km: 20.0, country: UNKNOWN }
    }

    fn of(user: u32, hours: f64, country: u32) -> Visit {
        Visit { country, ..at(user, hours, (f64::NAN, f64::NAN)) }
    }

    /// People around their towns; every second week one flies off and comes back a day later; user 0 changes the exit of a
    /// private network every few hours.
    fn people(seed: u64) -> Vec<Visit> {
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for user in 0..100 {
            let home = (40.0 + traffic.unit() * 20.0, traffic.unit() * 40.0);
            for day in 0..60 {
                let away = if (day + user) % 14 == 3 { 15.0 } else { 0.0 };
                for logon in 0..3 {
                    let near = |degree: f64, traffic: &mut Traffic| degree + traffic.normal() * 0.1;
                    let place = (near(home.0, &mut traffic), near(home.1, &mut traffic) + away);
                    events.push(at(user, f64::from(day) * 24.0 + 8.0 + 3.0 * f64::from(logon) + traffic.unit(), place));
                    if user == 0 && logon > 0 {
                        events.push(at(user, f64::from(day) * 24.0 + 8.5 + 3.0 * f64::from(logon), SYDNEY));
                    }
                }
            }
        }
        events
    }

    #[test]
    fn distances_are_those_of_the_atlas() {
        assert!((great_circle_km(BERLIN, SYDNEY) - 16_095.0).abs() < 30.0, "{}", great_circle_km(BERLIN, SYDNEY));
        assert!((great_circle_km((0.0, 0.0), (0.0, 180.0)) - 20_015.1).abs() < 0.1);
        assert_eq!(great_circle_km(BERLIN, BERLIN), 0.0);
    }

    #[test]
    fn a_stolen_account_stands_out_from_travellers_and_private_networks() {
        let ordinary = people(4);
        assert!(found(&ordinary).iter().all(|told| told.user == 0), "only exits of private networks are too fast");
        let mut events = ordinary;
        events.push(at(5, 24.0 * 40.0 + 9.5, SYDNEY));
        let told = found(&events);
        let stolen = told.iter().find(|told| told.user == 5).unwrap();
        assert!(stolen.km > 9_000.0 && stolen.km_per_hour > 5_000.0 && stolen.score > 0.95, "{stolen:?}");
        assert!(stolen.p_value < 0.01 && stolen.as_fast == 0, "{stolen:?}");
        let jumps = told.iter().filter(|told| told.user == 0 && told.to.time > 24.0 * 30.0 * HOUR);
        let (all, rare) = (jumps.clone().count(), jumps.filter(|told| told.p_value <= 0.05).count());
        assert!(all > 50 && rare * 10 <= all, "own past makes jumps usual: {rare} rare of {all}");
    }

    #[test]
    fn uncertainty_is_taken_off_the_distance() {
        let near = |radius_km| {
            let there = Visit { radius_km, ..at(1, 0.5, (52.52, 23.405)) };
            found(&[at(1, 0.0, BERLIN), there]).len()
        };
        assert_eq!((near(20.0), near(300.0), near(f64::NAN), near(-5.0)), (1, 0, 1, 1));
    }

    #[test]
    fn countries_stand_in_for_coordinates() {
        let told = found(&[of(1, 0.0, 7), of(1, 0.2, 8), of(1, 0.3, 8), of(1, 9.0, 7), of(2, 0.0, 7), of(2, 2.0, 8)]);
        assert_eq!(told.len(), 1);
        assert!((told[0].km_per_hour - 5_000.0).abs() < 1e-6);
        assert!(found(&[at(1, 0.0, BERLIN), of(1, 0.1, 7), at(1, 0.2, BERLIN)]).is_empty(), "a place beside a country");
    }

    #[test]
    fn order_and_missing_places_have_rules() {
        let events = [at(1, 3.0, SYDNEY), at(1, 0.0, BERLIN), of(1, 1.0, UNKNOWN), at(1, f64::NAN, BERLIN)];
        let told = found(&events);
        assert_eq!((told.len(), told[0].from.time), (1, 0.0));
        assert!(found(&[at(UNKNOWN, 0.0, BERLIN), at(UNKNOWN, 1.0, SYDNEY)]).is_empty());
        assert!(found(&[at(1, 0.0, (91.0, 0.0)), at(1, 0.1, SYDNEY)]).is_empty(), "no place on earth");
        let at_once = found(&[at(1, 0.0, BERLIN), at(1, 0.0, SYDNEY)]);
        assert!(at_once[0].km_per_hour.is_finite() && at_once[0].km_per_hour > 900_000.0);
        let wrong = Params { speed_max: -1.0, ..Params::default() };
        assert!(matches!(ImpossibleTravel::new(wrong), Err(Error::Parameter(_))));
    }
}
