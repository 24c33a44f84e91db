//! Rare processes: a parent that starts what it hardly ever starts, on this host and anywhere (ATT&CK T1059, T1204).
//!
//! **Formula.** With n the launches so far: P(x) = (n(x) + ½) / (n + ½·(different processes + 1)); P(x | parent) = (n(parent, x) +
//! 5·P(x)) / (n(parent) + 5); P(x | host, parent) = (n(host, parent, x) + 5·P(x | parent)) / (n(host, parent) + 5). The surprise
//! is u = −ln P(x | host, parent) less the mean surprise of the parent's launches so far (which weighs like five launches of 0 at first): a shell that
//! starts all sorts of things surprises less. score = strength(e^−u). The p-value is the share of launches so far that
//! surprised as much (see `ranks`).
//!
//! **Rules.** Launches without a process are passed over; an unknown parent or host is a value of its own. Equal launches all
//! count. The first 200 launches only teach. A combination of host, parent and process is told once, with how often it came, if it was rare
//! (p ≤ `p_max`) when it came first.
//!
//! **Source.** Jelinek and Mercer 1980 (backing off); Hassan et al., *NoDoze*, NDSS 2019 (rarity of parent and child); the
//! ranks are conformal.
//!
//! **Invariant:** learns a launch after it was judged.

use std::collections::BTreeMap;

use super::kept::Kept;
use super::ranks::Ranks;
use super::{Behaviour, ENTITIES_MAX, UNKNOWN, strength};
use crate::{Error, Result};

/// Launches that a shorter context weighs like.
const BACK_OFF: f64 = 5.0;
/// Launches that only teach.
const WARM_UP: f64 = 200.0;
/// Combinations of host, parent and process that are remembered.
const TRIPLES_MAX: usize = 1 << 20;
/// Findings that wait for their count.
const WAITING_MAX: usize = 1 << 16;

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Launch {
    /// Seconds since 1970.
    pub time: f64,
    /// Where, or [`UNKNOWN`].
    pub host: u32,
    /// By which process, or [`UNKNOWN`].
    pub parent: u32,
    /// What.
    pub process: u32,
}

/// What counts as rare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// The largest p-value that is told.
    pub p_max: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { p_max: 0.01 }
    }
}

/// A rare launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rare {
    /// The first one.
    pub launch: Launch,
    /// When the last one was.
    pub last: f64,
    /// How often it came in all.
    pub count: u32,
    /// How often the process had been started before, anywhere and by anything.
    pub process_seen: u32,
    /// How often the parent had started it before, anywhere.
    pub pair_seen: u32,
    /// Launches of the parent before.
    pub parent_seen: u32,
    /// P(process | host, parent).
    pub probability: f64,
    /// The share of launches so far that surprised as much.
    pub p_value: f64,
    /// 0 to below 1.
    pub score: f64,
}

/// Launches, and the sum of their surprises.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: f64,
    nats: f64,
}

/// Told from a stream of launches.
#[derive(Clone, Debug)]
pub struct RareProcess {
    params: Params,
    all: f64,
    processes: Kept<u32, u32>,
    parents: Kept<u32, Tally>,
    pairs: Kept<(u32, u32), u32>,
    places: Kept<(u32, u32), u32>,
    triples: Kept<(u32, u32, u32), u32>,
    surprises: Ranks,
    now: f64,
    waiting: BTreeMap<(u32, u32, u32), usize>,
    found: Vec<Rare>,
    told: Vec<Rare>,
}

impl RareProcess {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        if !(params.p_max > 0.0 && params.p_max <= 1.0) {
            let text = format!("the largest p-value that is told must be above 0 and at most 1, not {}", params.p_max);
            return Err(Error::Parameter(text));
        }
        Ok(Self {
            params,
            all: 0.0,
            processes: Kept::new(ENTITIES_MAX),
            parents: Kept::new(ENTITIES_MAX),
            pairs: Kept::new(TRIPLES_MAX / 4),
            places: Kept::new(TRIPLES_MAX / 4),
            triples: Kept::new(TRIPLES_MAX),
            surprises: Ranks::new(),
            now: f64::NEG_INFINITY,
            waiting: BTreeMap::new(),
            found: Vec::new(),
            told: Vec::new(),
        })
    }

    /// P(process | host, parent) as of now, and how often process, pair and triple were seen.
    fn probability(&self, launch: &Launch) -> (f64, [u32; 3]) {
        let Launch { host, parent, process, .. } = *launch;
        let seen = [
            self.processes.get(&process).copied().unwrap_or(0),
            self.pairs.get(&(parent, process)).copied().unwrap_or(0),
            self.triples.get(&(host, parent, process)).copied().unwrap_or(0),
        ];
        let [n_process, n_pair, n_triple] = seen.map(f64::from);
        let n_parent = self.parents.get(&parent).map_or(0.0, |tally| tally.count);
        let n_place = self.places.get(&(host, parent)).copied().map_or(0.0, f64::from);
        let any = (n_process + 0.5) / (self.all + 0.5 * (self.processes.len() as f64 + 1.0));
        let by_parent = (n_pair + BACK_OFF * any) / (n_parent + BACK_OFF);
        (((n_triple + BACK_OFF * by_parent) / (n_place + BACK_OFF)).min(1.0), seen)
    }

    fn learn(&mut self, launch: &Launch, nats: f64) {
        let (now, Launch { host, parent, process, .. }) = (self.now, *launch);
        let one = |count: &mut u32| *count = count.saturating_add(1);
        self.all += 1.0;
        self.processes.make_room(&process);
        one(self.processes.at(process, now, || 0));
        self.pairs.make_room(&(parent, process));
        one(self.pairs.at((parent, process), now, || 0));
        self.places.make_room(&(host, parent));
        one(self.places.at((host, parent), now, || 0));
        self.triples.make_room(&(host, parent, process));
        one(self.triples.at((host, parent, process), now, || 0));
        self.parents.make_room(&parent);
        let tally = self.parents.at(parent, now, Tally::default);
        tally.count += 1.0;
        tally.nats += nats;
    }
}

impl Behaviour for RareProcess {
    type Event = Launch;
    type Finding = Rare;

    fn time(event: &Launch) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Launch) {
        self.now = self.now.max(event.time);
        if event.process == UNKNOWN {
            return;
        }
        let launch = Launch { time: self.now, ..*event };
        let (probability, [process_seen, pair_seen, triple_seen]) = self.probability(&launch);
        let nats = -probability.ln();
        let tally = self.parents.get(&launch.parent).copied().unwrap_or_default();
        let surprise = (nats - tally.nats / (tally.count + BACK_OFF)).max(0.0);
        let key = (launch.host, launch.parent, launch.process);
        if let Some(at) = self.waiting.get(&key) {
            self.found[*at].count = self.found[*at].count.saturating_add(1);
            self.found[*at].last = self.now;
        } else if triple_seen == 0 && self.all >= WARM_UP {
            let p_value = self.surprises.p_value(surprise);
            if p_value <= self.params.p_max {
                self.waiting.insert(key, self.found.len());
                self.found.push(Rare {
                    launch,
                    last: self.now,
                    count: 1,
                    process_seen,
                    pair_seen,
                    parent_seen: tally.count as u32,
                    probability,
                    p_value,
                    score: strength((-surprise).exp()),
                });
            }
        }
        if self.all >= WARM_UP {
            self.surprises.learn(surprise);
        }
        self.learn(&launch, nats);
        if self.found.len() >= WAITING_MAX {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.waiting.clear();
        self.told.append(&mut self.found);
    }

    fn take(&mut self) -> Vec<Rare> {
        std::mem::take(&mut self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;

    fn found(events: &[Launch]) -> Vec<Rare> {
        run(&Device::cpu(), RareProcess::new(Params::default()).unwrap(), events).unwrap()
    }

    /// Forty hosts whose twenty parents each start a few of forty processes of their own, some often and some seldom.
    fn office(seed: u64, launches: u32) -> Vec<Launch> {
        let mut traffic = Traffic::new(seed);
        let one = |i: u32| {
            let (host, parent) = (traffic.below(40), traffic.popular(20));
            let process = 100 + parent * 5 + traffic.popular(40);
            Launch { time: f64::from(i), host, parent, process }
        };
        (0..launches).map(one).collect()
    }

    #[test]
    fn what_a_parent_never_starts_stands_out() {
        let ordinary = office(1, 20_000);
        let told = found(&ordinary);
        let alarms = told.iter().filter(|told| told.p_value <= 0.001 && told.launch.time > 2_000.0).count();
        assert!(alarms <= 36, "{alarms} false alarms at one in a thousand of 18,000 launches");
        let mut events = ordinary;
        // Parent 3 (a word processor) starts process 101 (a shell), which others start all day; later it starts what nobody knows.
        events.push(Launch { time: 15_000.5, host: 7, parent: 3, process: 101 });
        events.push(Launch { time: 15_001.5, host: 7, parent: 3, process: 9_999 });
        events.push(Launch { time: 15_003.5, host: 7, parent: 3, process: 9_999 });
        let told = found(&events);
        let of = |process| *told.iter().find(|told| told.launch.parent == 3 && told.launch.process == process).unwrap();
        let (shell, unknown) = (of(101), of(9_999));
        assert!(shell.p_value <= 0.005 && shell.pair_seen == 0 && shell.process_seen > 300, "{shell:?}");
        assert!(unknown.p_value <= 0.001 && unknown.score > 0.5 && unknown.process_seen == 0, "{unknown:?}");
        assert_eq!((unknown.count, unknown.last), (2, 15_003.5));
    }

    #[test]
    fn a_usual_pair_is_not_rare_on_a_new_host() {
        let mut events = office(2, 5_000);
        events.push(Launch { time: 6_000.0, host: 77, parent: 0, process: 100 });
        assert!(found(&events).iter().all(|told| told.launch.host != 77));
    }

    #[test]
    fn order_and_missing_values_have_rules() {
        let mut events = office(3, 3_000);
        events.push(Launch { time: 2_900.5, host: UNKNOWN, parent: UNKNOWN, process: 5_000 });
        let told = found(&events);
        assert!(told.iter().any(|told| told.launch.process == 5_000));
        events.reverse();
        events.push(Launch { time: f64::NAN, ..events[0] });
        events.push(Launch { process: UNKNOWN, ..events[0] });
        assert_eq!(found(&events), told);
        assert!(found(&office(3, 150)).is_empty(), "too little is known");
        assert!(matches!(RareProcess::new(Params { p_max: 0.0 }), Err(Error::Parameter(_))));
    }
}
