//! Exfiltration by volume: far more bytes out than an entity's own past and its peers' hour let expect (ATT&CK T1041, T1048).
//!
//! **Formula.** For each entity and window (default an hour) y = ln(1 + bytes out). With m and d the median and 1.4826 times the
//! median distance from it (at least 0.25) of the entity's last 168 windows with traffic, n of them, and M and D those of
//! the last 4,096 windows of all entities: s = (n·d + 8·D) / (n + 8) is how much the entity varies, and by the normal law for a
//! mean of deviation D between entities, y is expected at (n·D²·m + s²·M) / (n·D² + s²) with the variance v = s² + s²·D² / (n·D² + s²).
//! r = (y − expected) / √v. Where at least five
//! entities have traffic in the window, their median r, if positive, is taken off: a day on which all send more is nobody's
//! exfiltration. z = max(0, r), score = z² / (z² + 16): one half at four deviations. The p-value is the share of windows of all
//! entities so far with as large a z (see `ranks`).
//!
//! **Rules.** Transfers without entity, and whose bytes are missing or negative, are passed over. Equal transfers all count.
//! Windows without traffic teach nothing. Nothing is told until there are 50 windows of all entities, nor below `bytes_min`
//! or `deviations_min`.
//!
//! **Source.** Robust z-scores: Rousseeuw and Croux 1993; own and all: Gelman et al., *Bayesian Data Analysis*, section 2.5; peer groups: Marchetti et al., *Analysis of high volumes of network traffic
//! for Advanced Persistent Threat detection*, 2016.
//!
//! **Invariant:** a window is told once, when it is over.

use std::collections::{BTreeMap, VecDeque};

use super::distinct::Distinct;
use super::kept::Kept;
use super::ranks::Ranks;
use super::{Behaviour, UNKNOWN, positive, window_of};
use crate::Result;

/// Entities that are remembered.
const ENTITIES_MAX: usize = 1 << 16;
/// Windows of an entity and of all that are remembered.
const OWN: usize = 168;
const POOLED: usize = 4_096;
/// Windows of all before anything is told.
const WARM_UP: usize = 50;
/// Windows that those of all weigh like.
const BACK_OFF: f64 = 8.0;
/// The least deviation, in the logarithm of bytes.
const DEVIATION_MIN: f64 = 0.25;
/// Entities with traffic that make a crowd.
const CROWD: usize = 5;
/// Targets of an entity and window whose bytes are told apart.
const TARGETS_MAX: usize = 1_024;

/// Bytes that went out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Seconds since 1970.
    pub time: f64,
    /// Who sent.
    pub entity: u32,
    /// To whom, or [`UNKNOWN`].
    pub target: u32,
    /// How many bytes.
    pub bytes: f64,
}

/// What counts as exfiltration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Length of a window in seconds.
    pub window_s: f64,
    /// The fewest bytes that are told.
    pub bytes_min: f64,
    /// The fewest deviations that are told.
    pub deviations_min: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { window_s: 3_600.0, bytes_min: 1e6, deviations_min: 3.0 }
    }
}

/// A window in which an entity sent too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// Who sent.
    pub entity: u32,
    /// The first and the last transfer.
    pub span: (f64, f64),
    /// How much.
    pub bytes: f64,
    /// How much own past and peers let expect.
    pub expected: f64,
    /// How many deviations that is above both.
    pub deviations: f64,
    /// The median deviation of all in the same window.
    pub peers: f64,
    /// Own windows that were known.
    pub history: u32,
    /// Different targets.
    pub targets: f64,
    /// The target of most bytes, and its share.
    pub most: (u32, f64),
    /// The share of windows so far that deviated as much.
    pub p_value: f64,
    /// 0 to below 1.
    pub score: f64,
}

#[derive(Clone, Debug)]
struct Open {
    span: (f64, f64),
    bytes: f64,
    targets: Distinct,
    by_target: BTreeMap<u32, f64>,
}

/// Told from a stream of transfers.
#[derive(Clone, Debug)]
pub struct Exfiltration {
    params: Params,
    pasts: Kept<u32, VecDeque<f32>>,
    pool: VecDeque<f32>,
    open: BTreeMap<u32, Open>,
    window: i64,
    now: f64,
    deviations: Ranks,
    found: Vec<Excess>,
}

impl Exfiltration {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the window of exfiltration", params.window_s)?;
        let (window, now) = (i64::MIN, f64::NEG_INFINITY);
        let (pasts, pool, open) = (Kept::new(ENTITIES_MAX), VecDeque::new(), BTreeMap::new());
        Ok(Self { params, pasts, pool, open, window, now, deviations: Ranks::new(), found: Vec::new() })
    }

    fn close(&mut self) {
        let closed = std::mem::take(&mut self.open);
        let known = self.pool.len() >= WARM_UP;
        let (centre, spread) = spread(&self.pool);
        let judge = |(entity, open): (&u32, &Open)| {
            let own = self.pasts.get(entity).map_or((0.0, 0.0, 0.0), |past| {
                let (m, s) = self::spread(past);
                (past.len() as f64, m, s)
            });
            let (n, m, d) = own;
            let within = ((n * d + BACK_OFF * spread) / (n + BACK_OFF)).powi(2);
            let known = n * spread * spread;
            let expected = (known * m + within * centre) / (known + within);
            let deviation = (within + within * spread * spread / (known + within)).sqrt();
            (n as u32, expected, (open.bytes.ln_1p() - expected) / deviation)
        };
        let judged: Vec<(u32, f64, f64)> = closed.iter().map(judge).collect();
        let mut all: Vec<f64> = judged.iter().map(|(_, _, deviations)| *deviations).collect();
        let peers = if all.len() >= CROWD { median(&mut all).max(0.0) } else { 0.0 };
        for ((entity, open), (history, expected, deviations)) in closed.iter().zip(&judged).filter(|_| known) {
            let z = (deviations - peers).max(0.0);
            if open.bytes >= self.params.bytes_min && z >= self.params.deviations_min {
                let most =
                    open.by_target.iter().fold(
                        (UNKNOWN, 0.0),
                        |most, (target, bytes)| {
                            if *bytes > most.1 { (*target, *bytes) } else { most }
                        },
                    );
                self.found.push(Excess {
                    entity: *entity,
                    span: open.span,
                    bytes: open.bytes,
                    expected: expected.exp_m1(),
                    deviations: z,
                    peers,
                    history: *history,
                    targets: open.targets.count(),
                    most: (most.0, most.1 / open.bytes),
                    p_value: self.deviations.p_value(z),
                    score: z * z / (z * z + 16.0),
                });
            }
        }
        for ((entity, open), (_, _, deviations)) in closed.iter().zip(&judged) {
            if known {
                self.deviations.learn((deviations - peers).max(0.0));
            }
            self.pasts.make_room(entity);
            keep(self.pasts.at(*entity, self.now, VecDeque::new), open.bytes, OWN);
            keep(&mut self.pool, open.bytes, POOLED);
        }
    }
}

fn keep(past: &mut VecDeque<f32>, bytes: f64, max: usize) {
    if past.len() == max {
        past.pop_front();
    }
    past.push_back(bytes.ln_1p() as f32);
}

/// The median of numbers and their deviation by the median distance from it.
fn spread(numbers: &VecDeque<f32>) -> (f64, f64) {
    let mut sorted: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
    let centre = median(&mut sorted);
    sorted.iter_mut().for_each(|number| *number = (*number - centre).abs());
    (centre, (1.4826 * median(&mut sorted)).max(DEVIATION_MIN))
}

fn median(numbers: &mut [f64]) -> f64 {
    let middle = numbers.len() / 2;
    if numbers.is_empty() { 0.0 } else { *numbers.select_nth_unstable_by(middle, f64::total_cmp).1 }
}

impl Behaviour for Exfiltration {
    type Event = Transfer;
    type Finding = Excess;

    fn time(event: &Transfer) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Transfer) {
        self.now = self.now.max(event.time);
        if event.entity == UNKNOWN || !(event.bytes >= 0.0 && event.bytes.is_finite()) {
            return;
        }
        let window = window_of(self.now, self.params.window_s);
        if window != self.window {
            self.close();
            self.window = window;
        }
        if self.open.len() >= ENTITIES_MAX && !self.open.contains_key(&event.entity) {
            return;
        }
        let now = self.now;
        let new = || Open { span: (now, now), bytes: 0.0, targets: Distinct::default(), by_target: BTreeMap::new() };
        let open = self.open.entry(event.entity).or_insert_with(new);
        open.span.1 = now;
        open.bytes += event.bytes;
        if event.target != UNKNOWN {
            open.targets.add(u64::from(event.target));
            if open.by_target.len() < TARGETS_MAX || open.by_target.contains_key(&event.target) {
                *open.by_target.entry(event.target).or_insert(0.0) += event.bytes;
            }
        }
    }

    fn finish(&mut self) {
        self.close();
    }

    fn take(&mut self) -> Vec<Excess> {
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

    fn found(events: &[Transfer]) -> Vec<Excess> {
        run(&Device::cpu(), Exfiltration::new(Params::default()).unwrap(), events).unwrap()
    }

    /// Fifty clients of about a megabyte an hour by day; a backup host (50) of 40 GB every night; on day 9 all send 30 times more.
    fn office(seed: u64, days: u32) -> Vec<Transfer> {
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for hour in 0..days * 24 {
            let time = |traffic: &mut Traffic| HOUR * (f64::from(hour) + traffic.unit());
            for entity in (0..50).filter(|_| (8..18).contains(&(hour % 24))) {
                let much = if hour / 24 == 9 { 30.0 } else { 1.0 };
                for _ in 0..3 {
                    let bytes = much * (12.5 + 0.03 * f64::from(entity) + 1.2 * traffic.normal()).exp();
                    events.push(Transfer { time: time(&mut traffic), entity, target: traffic.below(9), bytes });
                }
            }
            if hour % 24 == 2 {
                let bytes = 4e10 * (1.0 + 0.1 * traffic.normal());
                events.push(Transfer { time: time(&mut traffic), entity: 50, target: 99, bytes });
            }
        }
        events
    }

    #[test]
    fn a_leak_stands_out_and_backups_and_busy_days_do_not() {
        let ordinary = office(2, 20);
        let told = found(&ordinary);
        let windows = 50 * 10 * 20;
        let alarms = told.iter().filter(|told| told.p_value <= 0.001).count();
        assert!(alarms <= 2 * windows / 1_000, "{alarms} false alarms at one in a thousand of {windows}");
        let late = |told: &&Excess| told.span.0 > 10.0 * 24.0 * HOUR && told.entity == 50;
        assert_eq!(told.iter().filter(late).count(), 0, "a backup is its host's own past");
        let busy = |told: &&Excess| (9.0..10.0).contains(&(told.span.0 / 24.0 / HOUR));
        assert!(told.iter().filter(busy).count() <= 5, "on a busy day all send more");
        let mut events = ordinary;
        let at = HOUR * (24.0 * 15.0 + 10.5);
        events.extend((0..10).map(|i| Transfer { time: at + f64::from(i), entity: 7, target: 1_000, bytes: 8e7 }));
        let told = found(&events);
        let leak = told.iter().find(|told| told.entity == 7 && told.bytes > 8e8).unwrap();
        assert!(leak.p_value <= 0.001 && leak.score > 0.6 && leak.expected < 1e7, "{leak:?}");
        assert!(leak.most.0 == 1_000 && leak.most.1 > 0.9 && leak.history > 100, "{leak:?}");
    }

    #[test]
    fn order_and_missing_bytes_have_rules() {
        let mut events = office(3, 4);
        events.push(Transfer { time: HOUR * 90.5, entity: 3, target: UNKNOWN, bytes: 5e11 });
        let told = found(&events);
        assert!(told.iter().any(|told| told.entity == 3 && told.bytes > 4e11));
        events.reverse();
        for bytes in [f64::NAN, -1.0, f64::INFINITY] {
            events.push(Transfer { bytes, ..events[0] });
        }
        events.push(Transfer { time: f64::NAN, ..events[0] });
        events.push(Transfer { entity: UNKNOWN, ..events[0] });
        let again = found(&events);
        assert_eq!(again.len(), told.len());
        assert!(again.iter().zip(&told).all(|(a, b)| a.entity == b.entity && (a.bytes / b.bytes - 1.0).abs() < 1e-9));
        assert!(found(&events[..20]).is_empty(), "too little is known");
        let wrong = Params { window_s: -1.0, ..Params::default() };
        assert!(matches!(Exfiltration::new(wrong), Err(Error::Parameter(_))));
    }
}
