//! Lateral movement: a host or user that reaches out to hosts it never talked to, more than in its past (ATT&CK T1021,
//! Remote Services).
//!
//! **Formula.** For each source and window (default an hour): f = edges to targets that the source was never seen with
//! before and that at most a quarter of all sources ever talked to; k = different targets. Both are held against
//! the source's own past with the mean of all sources as the prior (Gamma–Poisson, see `counts`): q = min(1, 2·min(q_f, q_k)).
//! The score is the strength of q. The p-value is the share of all windows so far whose q was as small, which stays right where
//! counts come in bursts. `hops` is the longest chain of first-seen edges that this one ends, each within a day of
//! the one before: A to B, then B to C is 2.
//!
//! **Rules.** The first `learn_s` of the stream only teach. Contacts without source or target, and of a host with itself, are passed
//! over. Equal contacts are one edge. Fewer than `edges_min` first-seen edges tell nothing. 2²⁰ edges are remembered; when there are more,
//! those that were not seen for the longest are forgotten and will be new again.
//!
//! **Source.** Neil et al., *Scan Statistics for the Online Detection of Locally Anomalous Subgraphs*, 2013; Bowman et al., *Detecting
//! Lateral Movement in Enterprise Computer Networks*, RAID 2020 (new edges); MITRE ATT&CK T1021.
//!
//! **Invariant:** a window is told once, when it is over.

use std::collections::BTreeMap;

use super::counts::Past;
use super::distinct::Distinct;
use super::kept::Kept;
use super::ranks::Ranks;
use super::{Behaviour, ENTITIES_MAX, UNKNOWN, positive, strength, window_of};
use crate::Result;

/// Edges that are remembered.
const EDGES_MAX: usize = 1 << 20;
/// The share of all sources that makes a target everybody's.
const EVERYBODY: f64 = 0.25;
/// Seconds within which one edge leads to the next.
const CHAIN_S: f64 = 86_400.0;
/// Targets that are named.
const NAMED: usize = 10;
/// First-seen edges and targets a window before anything is known.
const PRIOR: (f64, f64) = (0.5, 2.0);

/// One entity reaching another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contact {
    /// Seconds since 1970.
    pub time: f64,
    /// The host or user that reaches out.
    pub source: u32,
    /// The host that is reached.
    pub target: u32,
}

/// What counts as movement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Length of a window in seconds.
    pub window_s: f64,
    /// Seconds at the start of the stream that only teach.
    pub learn_s: f64,
    /// The fewest first-seen edges that are told.
    pub edges_min: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { window_s: 3_600.0, learn_s: 86_400.0, edges_min: 2 }
    }
}

/// A window of a source that moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Movement {
    /// Who moved.
    pub source: u32,
    /// The first and the last first-seen edge.
    pub span: (f64, f64),
    /// First-seen edges to targets that are not everybody's.
    pub edges: u32,
    /// First-seen edges in a window that past and peers let expect.
    pub expected: f64,
    /// Different targets.
    pub targets: f64,
    /// Different targets that past and peers let expect.
    pub targets_expected: f64,
    /// The longest chain of first-seen edges.
    pub hops: u32,
    /// The first ten targets of first-seen edges.
    pub named: Vec<u32>,
    /// The share of windows so far that were as unlikely.
    pub p_value: f64,
    /// 0 to below 1.
    pub score: f64,
}

#[derive(Clone, Debug, Default)]
struct Open {
    span: Option<(f64, f64)>,
    edges: u32,
    targets: Distinct,
    hops: u32,
    named: Vec<u32>,
}

/// First-seen edges and different targets.
#[derive(Clone, Copy, Debug)]
struct Pasts(Past, Past);

/// Told from a stream of contacts.
#[derive(Clone, Debug)]
pub struct LateralMovement {
    params: Params,
    edges: Kept<(u32, u32), ()>,
    pasts: Kept<u32, Pasts>,
    /// Of each target, how many sources it has; of each host, the last first-seen edge to it and its chain.
    sources: Kept<u32, u32>,
    reached: Kept<u32, (f64, u32)>,
    open: BTreeMap<u32, Open>,
    window: i64,
    now: f64,
    begin: f64,
    /// First-seen edges, targets and windows of all sources.
    all: (f64, f64, f64),
    unlikely: Ranks,
    found: Vec<Movement>,
}

impl LateralMovement {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the window of lateral movement", params.window_s)?;
        if !(params.learn_s >= 0.0 && params.learn_s.is_finite()) {
            return Err(crate::Error::Parameter(format!(
                "the time to learn must be 0 or more, not {}",
                params.learn_s
            )));
        }
        Ok(Self {
            params,
            edges: Kept::new(EDGES_MAX),
            pasts: Kept::new(ENTITIES_MAX),
            sources: Kept::new(ENTITIES_MAX),
            reached: Kept::new(ENTITIES_MAX),
            open: BTreeMap::new(),
            window: i64::MIN,
            now: f64::NEG_INFINITY,
            begin: f64::NAN,
            all: (0.0, 0.0, 0.0),
            unlikely: Ranks::new(),
            found: Vec::new(),
        })
    }

    /// Whether the edge is new and its target not everybody's; then also the chain that it ends.
    fn first_seen(&mut self, source: u32, target: u32) -> Option<u32> {
        let now = self.now;
        let known = self.edges.get(&(source, target)).is_some();
        self.edges.make_room(&(source, target));
        self.edges.at((source, target), now, || ());
        if known {
            return None;
        }
        self.sources.make_room(&target);
        let sources = self.sources.at(target, now, || 0);
        let everybody = f64::from(*sources) > EVERYBODY * self.pasts.len() as f64;
        *sources = sources.saturating_add(1);
        if everybody && self.pasts.len() > 1 {
            return None;
        }
        let before = self.reached.get(&source).filter(|(time, _)| now - time <= CHAIN_S).map_or(0, |(_, hops)| *hops);
        let hops = before.saturating_add(1);
        self.reached.make_room(&target);
        let reached = self.reached.at(target, now, || (now, 0));
        *reached = (now, if now - reached.0 <= CHAIN_S { reached.1.max(hops) } else { hops });
        Some(hops)
    }

    fn close(&mut self) {
        let mean = |sum: f64, prior: f64| (prior * 20.0 + sum) / (20.0 + self.all.2);
        let peers = (mean(self.all.0, PRIOR.0), mean(self.all.1, PRIOR.1));
        let window = self.window;
        let learned = window_of(self.begin + self.params.learn_s, self.params.window_s) <= window;
        let mut unlikely = Vec::new();
        for (source, open) in std::mem::take(&mut self.open) {
            self.pasts.make_room(&source);
            let Pasts(edges, targets) = self.pasts.at(source, self.now, || Pasts(Past::new(window), Past::new(window)));
            edges.pass(window);
            targets.pass(window);
            let count = open.targets.count().round() as u32;
            let q = (2.0 * edges.p_value(open.edges, peers.0).min(targets.p_value(count, peers.1))).min(1.0);
            let (expected, targets_expected) = (edges.mean(peers.0), targets.mean(peers.1));
            self.all.0 += edges.learn(window, open.edges, peers.0);
            self.all.1 += targets.learn(window, count, peers.1);
            self.all.2 += 1.0;
            if !learned {
                continue;
            }
            unlikely.push(-q.ln());
            if let Some(span) = open.span
                && open.edges >= self.params.edges_min.max(1)
            {
                self.found.push(Movement {
                    source,
                    span,
                    edges: open.edges,
                    expected,
                    targets: open.targets.count(),
                    targets_expected,
                    hops: open.hops,
                    named: open.named,
                    p_value: self.unlikely.p_value(-q.ln()),
                    score: strength(q),
                });
            }
        }
        unlikely.into_iter().for_each(|nats| self.unlikely.learn(nats));
    }
}

impl Behaviour for LateralMovement {
    type Event = Contact;
    type Finding = Movement;

    fn time(event: &Contact) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Contact) {
        let Contact { source, target, .. } = *event;
        self.now = self.now.max(event.time);
        if source == UNKNOWN || target == UNKNOWN || source == target {
            return;
        }
        if self.begin.is_nan() {
            self.begin = self.now;
        }
        let window = window_of(self.now, self.params.window_s);
        if window != self.window {
            self.close();
            self.window = window;
        }
        if self.open.len() >= ENTITIES_MAX && !self.open.contains_key(&source) {
            return;
        }
        let hops = self.first_seen(source, target);
        let open = self.open.entry(source).or_default();
        open.targets.add(u64::from(target));
        if let Some(hops) = hops {
            open.span = Some((open.span.map_or(self.now, |span| span.0), self.now));
            open.edges = open.edges.saturating_add(1);
            open.hops = open.hops.max(hops);
            if open.named.len() < NAMED {
                open.named.push(target);
            }
        }
    }

    fn finish(&mut self) {
        self.close();
    }

    fn take(&mut self) -> Vec<Movement> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;
    use crate::{Device, Error};

    const HOUR: f64 = 3_600.0;

    fn found(events: &[Contact]) -> Vec<Movement> {
        run(&Device::cpu(), LateralMovement::new(Params::default()).unwrap(), events).unwrap()
    }

    /// 200 clients that talk to servers 0–4 all day and to a few of 100 others now and then; a scanner (300) that sees all.
    fn office(seed: u64, days: u32) -> Vec<Contact> {
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for hour in 0..days * 24 {
            for source in 1_000..1_200 {
                for _ in 0..traffic.poisson(3.0) {
                    let target = match traffic.unit() {
                        0.0..0.9 => traffic.below(5),
                        0.9..0.98 => 100 + (source * 7 + traffic.below(4)) % 100,
                        _ => 100 + traffic.below(100),
                    };
                    events.push(Contact { time: HOUR * (f64::from(hour) + traffic.unit()), source, target });
                }
            }
            for target in 0..200 {
                events.push(Contact { time: HOUR * (f64::from(hour) + traffic.unit()), source: 300, target });
            }
        }
        events
    }

    #[test]
    fn a_host_that_moves_stands_out_from_an_office_and_its_scanner() {
        let ordinary = office(1, 8);
        let told = found(&ordinary);
        let windows = 200.0 * 24.0 * 7.0;
        let alarms = told.iter().filter(|told| told.p_value <= 0.001).count() as f64;
        assert!(alarms <= 0.002 * windows, "{alarms} false alarms at one in a thousand of {windows} windows");
        assert!(told.iter().all(|told| told.source != 300), "the scanner always did so");
        let mut events = ordinary;
        let from = HOUR * 150.0;
        events.extend((0..8).map(|i| Contact { time: from + 60.0 * f64::from(i), source: 1_007, target: 1_100 + i }));
        events.extend((0..4).map(|i| Contact {
            time: from + 7_200.0 + f64::from(i),
            source: 1_103,
            target: 1_150 + i,
        }));
        let told = found(&events);
        let of =
            |source: u32| told.iter().filter(|told| told.source == source).max_by(|a, b| a.score.total_cmp(&b.score));
        let (first, second) = (of(1_007).unwrap(), of(1_103).unwrap());
        assert!(first.edges >= 8 && first.p_value <= 0.001 && first.score > 0.6, "{first:?}");
        assert!(second.edges >= 4 && second.hops == 2 && second.p_value <= 0.002, "{second:?}");
        assert!(first.named.contains(&1_100) && first.expected < 0.5);
    }

    #[test]
    fn the_start_only_teaches_and_order_does_not_matter() {
        let mut events: Vec<_> = (0..50).map(|i| Contact { time: f64::from(i), source: 1, target: i + 2 }).collect();
        assert!(found(&events).is_empty(), "the first day");
        events.extend((0..30).map(|i| Contact { time: HOUR * 30.0 + f64::from(i), source: 2, target: 100 + i }));
        let told = found(&events);
        assert_eq!((told.len(), told[0].source, told[0].edges, told[0].named.len()), (1, 2, 30, 10));
        events.reverse();
        events.extend_from_within(..20);
        events.push(Contact { time: f64::NAN, source: 5, target: 6 });
        events.push(Contact { time: HOUR * 30.0, source: UNKNOWN, target: 6 });
        events.push(Contact { time: HOUR * 30.0, source: 2, target: 2 });
        assert_eq!(found(&events), told, "equal contacts are one edge");
        let wrong = Params { learn_s: f64::NAN, ..Params::default() };
        assert!(matches!(LateralMovement::new(wrong), Err(Error::Parameter(_))));
    }
}
