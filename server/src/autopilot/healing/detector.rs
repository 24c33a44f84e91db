//! Detection over the series of a fleet: the kernel `record_ratio` on each point, trends of what fills up, levels of what
//! clients notice, failing checks.
//!
//! What an incident shows teaches nothing: when one opens, the states and values from before it are kept, and are gone back
//! to when it is over.
//!
//! **Invariant:** a judgement depends on the past of its series alone.

use std::collections::{BTreeMap, VecDeque};

use juno_sql::actuator::{Pace, Replica};
use juno_sql::healing::alarm::{Alarm, Kind, Least, failed_checks, matters, persisted, rising, sustained};
use juno_sql::kernels::record_ratio::{self, Params, State};

use super::scrape::{Look, SERIES};

/// How many points teach before the first judgement.
pub const WARM_UP: usize = 60;
/// How many values of the past are kept.
const PAST: usize = 240;
/// For how many points an alarm may be confirmed.
const CONFIRMED_WITHIN: usize = 6;
/// Alarms above this are not worth to be remembered.
const ALARM_P: f64 = 1e-3;
/// How many ticks back the state can be had.
const BACK: usize = 16;
/// The series of memory.
const RSS: usize = 3;
/// Series of what fills up.
const STOCKS: [usize; 2] = [RSS, 4];
/// Series of what clients notice: latency and errors.
const SERVED: [usize; 2] = [0, 1];
/// How far each series must move to matter.
const LEAST: [Least; 6] = [
    Least { relative: 0.5, absolute: 10.0 },
    Least { relative: 0.0, absolute: 0.05 },
    Least { relative: 0.0, absolute: 0.05 },
    Least { relative: 0.1, absolute: 1.0 },
    Least { relative: 0.0, absolute: 0.1 },
    Least { relative: 0.5, absolute: 5.0 },
];
/// The least steps of a trend, as shares of what matters.
const STEP_SHARE: f64 = 0.2;
/// How many of the last values are looked at for a trend or a level.
const TREND: usize = 9;

/// An alarm of the kernel that may be confirmed.
#[derive(Clone, Copy)]
struct Told {
    /// Values after it.
    age: usize,
    at_us: i64,
    p_value: f64,
    kind: Kind,
    rises: bool,
}

#[derive(Clone)]
struct Track {
    state: State,
    values: VecDeque<f64>,
    told: Option<Told>,
}

#[derive(Clone, Default)]
struct Checks {
    asked: u64,
    failed: u64,
    in_a_row: u32,
    mute_in_a_row: u32,
}

/// All series of a fleet.
pub(super) struct Detector {
    tracks: BTreeMap<(String, usize), Track>,
    checks: BTreeMap<String, Checks>,
    /// The tracks of the ticks before, newest last.
    before: VecDeque<BTreeMap<(String, usize), Track>>,
    fresh: State,
    pace: Pace,
}

impl Detector {
    pub(super) fn new(pace: Pace) -> Result<Self, juno_sql::Error> {
        let fresh =
            Params { warm_up: WARM_UP }.state().map_err(|error| juno_sql::Error::Internal(error.to_string()))?;
        Ok(Self { tracks: BTreeMap::new(), checks: BTreeMap::new(), before: VecDeque::new(), fresh, pace })
    }

    /// How what it watches moves.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// How many series each service has, its check among them.
    pub(super) fn series(&self) -> BTreeMap<String, usize> {
        self.checks.keys().map(|service| (service.clone(), SERIES.len() + 1)).collect()
    }

    /// Takes in a look; gives the alarms that stand.
    pub(super) fn push(&mut self, looks: &BTreeMap<String, Look>, now_us: i64) -> Vec<Alarm> {
        self.before.push_back(self.tracks.clone());
        if self.before.len() > BACK {
            self.before.pop_front();
        }
        let mut alarms = Vec::new();
        for (service, look) in looks {
            for (series, value) in look.values.iter().enumerate() {
                let track = self.tracks.entry((service.clone(), series)).or_insert_with(|| Track {
                    state: self.fresh.clone(),
                    values: VecDeque::new(),
                    told: None,
                });
                let alarm = |(at_us, p_value, kind)| alarm(service, SERIES[series], at_us, p_value, kind);
                alarms.extend(track.push(*value, now_us, series).into_iter().map(alarm));
            }
            alarms.extend(self.check(service, look, now_us, true));
        }
        alarms
    }

    /// Counts a check; `teaches` says whether failures that passed by themselves count for how often it fails.
    fn check(&mut self, service: &str, look: &Look, now_us: i64, teaches: bool) -> Option<Alarm> {
        let checks = self.checks.entry(service.to_owned()).or_default();
        let (failed, asked) = (checks.failed, checks.asked);
        let is_out = |replica: &Replica| replica.state == "gone" || replica.state == "halted";
        let is_gone = !self.pace.replaces && look.observed.replicas.iter().any(is_out);
        // What is acted on now, or contained on purpose, is as it should be. That a whole cluster does not answer is no
        // fault of what runs there.
        let is_unknown = self.pace.replaces && !look.is_known;
        if look.observed.is_busy || look.observed.is_isolated || is_unknown {
            return None;
        }
        if is_good(look) {
            checks.asked += 1;
            checks.failed += if teaches { u64::from(checks.in_a_row) } else { 0 };
            checks.in_a_row = 0;
            checks.mute_in_a_row = 0;
            return None;
        }
        checks.in_a_row += 1;
        checks.mute_in_a_row = if look.is_mute { checks.mute_in_a_row + 1 } else { 0 };
        // What the system says outright needs no repetition.
        let p_value = if is_gone { 1e-12 } else { failed_checks(checks.in_a_row, failed, asked) };
        Some(alarm(service, "health", now_us, p_value, Kind::Check))
    }

    /// How often in a row a service's check failed.
    pub(super) fn failed(&self, service: &str) -> u32 {
        self.checks.get(service).map_or(0, |checks| checks.in_a_row)
    }

    /// In how many looks in a row a service answered nothing.
    pub(super) fn mute(&self, service: &str) -> u32 {
        self.checks.get(service).map_or(0, |checks| checks.mute_in_a_row)
    }

    /// Only counts checks: what an incident shows teaches nothing else.
    pub(super) fn push_checks(&mut self, looks: &BTreeMap<String, Look>, now_us: i64) {
        for (service, look) in looks {
            self.check(service, look, now_us, false);
        }
    }

    /// Goes back by so many ticks.
    pub(super) fn go_back(&mut self, ticks: usize) {
        let kept = self.before.len().saturating_sub(ticks.max(1));
        if let Some(tracks) = self.before.get(kept).cloned() {
            self.tracks = tracks;
            self.before.truncate(kept);
        }
        self.tracks.values_mut().for_each(|track| track.told = None);
    }

    /// Takes the memory of a service that was started anew for its usual one.
    pub(super) fn rebase(&mut self, service: &str, look: &Look) {
        if let Some(track) = self.tracks.get_mut(&(service.to_owned(), RSS)) {
            let moved = look.values[RSS] - median(track.values.iter().copied());
            if moved.is_finite() {
                track.values.iter_mut().for_each(|value| *value += moved);
            }
        }
    }

    /// A series' values.
    pub(super) fn past(&self, service: &str, series: usize) -> Vec<f64> {
        self.tracks
            .get(&(service.to_owned(), series))
            .map_or_else(Vec::new, |track| track.values.iter().copied().collect())
    }
}

/// Whether a service answers its check, or runs where it has none. One that was stopped by an order is as it should be.
pub(super) fn is_good(look: &Look) -> bool {
    let is_well = |replica: &Replica| replica.is_healthy.unwrap_or(replica.state == "running");
    let observed = &look.observed;
    look.is_known && (observed.wanted == 0 || !observed.replicas.is_empty()) && observed.replicas.iter().all(is_well)
}

fn alarm(service: &str, metric: &str, at_us: i64, p_value: f64, kind: Kind) -> Alarm {
    Alarm { service: service.into(), metric: metric.into(), labels: BTreeMap::new(), at_us, p_value, kind }
}

impl Track {
    fn push(&mut self, value: f64, now_us: i64, series: usize) -> Option<(i64, f64, Kind)> {
        let point = self.state.push(value, None);
        let median = median(self.values.iter().copied());
        self.values.push_back(value);
        if self.values.len() > PAST {
            self.values.pop_front();
        }
        if let Some(told) = &mut self.told {
            told.age += 1;
        }
        self.told = self.told.filter(|told| told.age <= CONFIRMED_WITHIN);
        let is_told = point.p_value < self.told.map_or(ALARM_P, |told| told.p_value);
        if is_told && matters(value, median, LEAST[series]) {
            let rises = value >= median;
            self.told = Some(Told { age: 0, at_us: now_us, p_value: point.p_value, kind: kind(point.kind), rises });
        }
        let values: Vec<f64> = self.values.iter().copied().collect();
        let (usual, recent) = values.split_at(values.len().saturating_sub(TREND));
        let (lasting, lasting_kind) = match series {
            _ if values.len() <= WARM_UP => (1.0, Kind::Trend),
            series if STOCKS.contains(&series) => {
                (rising(usual, recent, STEP_SHARE * LEAST[series].absolute), Kind::Trend)
            }
            series if SERVED.contains(&series) => (sustained(usual, recent, median, LEAST[series]), Kind::LevelShift),
            _ => (1.0, Kind::Trend),
        };
        let confirmed = self.told.map(|told| {
            let (past, since) = values.split_at(values.len() - told.age);
            let past = &past[..past.len().saturating_sub(1)];
            (told.at_us, persisted(told.p_value, past, since, told.rises), told.kind)
        });
        match confirmed {
            Some(confirmed) if confirmed.1 <= lasting => Some(confirmed),
            _ if lasting < ALARM_P => Some((now_us, lasting, lasting_kind)),
            other => other,
        }
    }
}

fn kind(kind: record_ratio::Kind) -> Kind {
    match kind {
        record_ratio::Kind::LevelShift => Kind::LevelShift,
        record_ratio::Kind::Pattern => Kind::Pattern,
        record_ratio::Kind::Silence => Kind::Silence,
        record_ratio::Kind::Flatline => Kind::Flatline,
        record_ratio::Kind::Point | record_ratio::Kind::None => Kind::Point,
    }
}

/// The median of the finite ones; NaN where there are none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
