//! Brute force: far more failed logons in a row than somebody who mistypes makes (ATT&CK T1110.001, Password Guessing).
//!
//! **Formula.** An episode is a run of failed logons without a pause longer than `pause_s`: of one source at one target, or
//! of several sources at one account of a target. A logon that succeeds takes back up to five failures of its account from
//! the episode of its source: somebody found the right password. After more of them it is the attack's success.
//! With k failures left, p = r^(k − 1): the chance that somebody who failed goes on failing so long. r is the share of
//! episodes of all sources that had a second failure, (2 + those with one) / (4 + all), or, if that is more, how often the source's own
//! earlier failures went on, with e episodes and c further failures (at most ten of an episode): (10·r + c) / (10 + c + e); but at most
//! 0.8. An episode counts once or ten times, however long it is, so that an attack does not teach that attacks are normal. The
//! score is the strength of p.
//!
//! **Rules.** Events without a source or target have `UNKNOWN` as one. Fewer than `failures_min` failures tell nothing. A
//! program with an old password looks the same: the evidence (one account, an even pace) tells it apart.
//!
//! **Source.** The geometric law of retries is this kernel's own; MITRE ATT&CK T1110.001 and OWASP's credential guessing name the evidence.
//!
//! **Invariant:** an episode is told once, when it ended.

use super::distinct::Distinct;
use super::kept::{Kept, Table};
use super::{Behaviour, ENTITIES_MAX, positive, strength};
use crate::Result;

/// Failures that a success takes back.
const FORGIVEN: u32 = 5;
/// The share of retries that is believed at most.
const RETRIES_MAX: f64 = 0.8;
/// Failures that a source's share of all weighs like, and the most that one episode teaches of it.
const OWN: f64 = 10.0;
/// Episodes of a source at which its past is halved.
const EPISODES_MAX: f64 = 100.0;
/// Accounts of an episode whose failures are counted one by one.
const ACCOUNTS_MAX: usize = 4_096;

/// A try to log on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logon {
    /// Seconds since 1970.
    pub time: f64,
    /// Where it came from.
    pub source: u32,
    /// Which host or service it was at.
    pub target: u32,
    /// As whom.
    pub account: u32,
    /// Whether it failed.
    pub failed: bool,
}

/// What counts as brute force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Seconds without a failure that end an episode.
    pub pause_s: f64,
    /// The fewest failures that are told.
    pub failures_min: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { pause_s: 600.0, failures_min: 5 }
    }
}

/// An episode of failures.
#[derive(Clone, Debug, PartialEq)]
pub struct Guessing {
    /// Who guessed; none where several sources guessed one account together.
    pub source: Option<u32>,
    /// Where.
    pub target: u32,
    /// Whose password: the account with most failures.
    pub account: u32,
    /// The first and the last failure.
    pub span: (f64, f64),
    /// Failures that no success took back.
    pub failures: u32,
    /// Different accounts that were tried.
    pub accounts: f64,
    /// Different sources.
    pub sources: f64,
    /// Who logged on after more failures than somebody who mistypes makes.
    pub succeeded: Option<u32>,
    /// The chance that an ordinary episode is as long.
    pub p_value: f64,
    /// Its strength, 0 to below 1.
    pub score: f64,
}

/// Whose episode it is: a source at a target, or (no source) an account of a target.
type Key = (u32, Option<u32>, u32);

#[derive(Clone, Debug)]
struct Episode {
    from: f64,
    to: f64,
    /// All failures, also those taken back.
    seen: u32,
    failures: u32,
    by_account: Table<u32, u32>,
    accounts: Distinct,
    sources: Distinct,
    succeeded: Option<u32>,
}

/// Told from a stream of logons.
#[derive(Clone, Debug)]
pub struct BruteForce {
    params: Params,
    episodes: Kept<Key, Episode>,
    /// Episodes that ended, and those of them with a second failure.
    ended: f64,
    retried: f64,
    /// Of each source, its episodes and how many further failures they had.
    sources: Kept<u32, (f64, f64)>,
    now: f64,
    /// When episodes that paused were last looked for.
    swept: f64,
    found: Vec<Guessing>,
}

impl BruteForce {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the pause that ends a run of failures", params.pause_s)?;
        let (now, swept) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let (episodes, sources) = (Kept::new(ENTITIES_MAX), Kept::new(ENTITIES_MAX));
        Ok(Self { params, episodes, ended: 0.0, retried: 0.0, sources, now, swept, found: Vec::new() })
    }

    fn fail(&mut self, key: Key, event: &Logon) {
        for (key, episode) in self.episodes.make_room(&key) {
            self.end(key, &episode);
        }
        let now = self.now;
        let episode = self.episodes.at(key, now, || Episode::new(now));
        episode.to = now;
        episode.seen = episode.seen.saturating_add(1);
        episode.failures = episode.failures.saturating_add(1);
        episode.accounts.add(u64::from(event.account));
        episode.sources.add(u64::from(event.source));
        if episode.by_account.len() < ACCOUNTS_MAX || episode.by_account.contains_key(&event.account) {
            *episode.by_account.entry(event.account).or_insert(0) += 1;
        }
    }

    fn succeed(&mut self, key: Key, account: u32) {
        let Some(episode) = self.episodes.get(&key) else { return };
        let own = episode.by_account.get(&account).copied().unwrap_or(0);
        if own == 0 {
            return;
        }
        // Seen at its last failure: a success neither prolongs an episode nor ends it.
        let episode = self.episodes.at(key, episode.to, || Episode::new(0.0));
        if own <= FORGIVEN {
            episode.failures -= own;
            episode.by_account.remove(&account);
        } else if episode.succeeded.is_none() {
            episode.succeeded = Some(account);
        }
    }

    fn sweep(&mut self) {
        let (now, pause) = (self.now, self.params.pause_s);
        for (key, episode) in self.episodes.take(|_, episode| now - episode.to > pause) {
            self.end(key, &episode);
        }
        self.swept = now;
    }

    /// How often a failure is followed by another.
    fn retries(&self, source: Option<u32>) -> f64 {
        let all = (2.0 + self.retried) / (4.0 + self.ended);
        let own = source.and_then(|source| self.sources.get(&source));
        let own = own.map_or(0.0, |(episodes, further)| (OWN * all + further) / (OWN + further + episodes));
        all.max(own).min(RETRIES_MAX)
    }

    fn learn(&mut self, source: u32, failures: u32) {
        self.ended += 1.0;
        self.retried += f64::from(u8::from(failures > 1));
        self.sources.make_room(&source);
        let (episodes, further) = self.sources.at(source, self.now, || (0.0, 0.0));
        *episodes += 1.0;
        *further += f64::from(failures.saturating_sub(1)).min(OWN);
        if *episodes >= EPISODES_MAX {
            *episodes /= 2.0;
            *further /= 2.0;
        }
    }

    fn end(&mut self, key: Key, episode: &Episode) {
        let (target, source, _) = key;
        let share = self.retries(source);
        if let Some(source) = source {
            self.learn(source, episode.seen);
        }
        let several = source.is_some() || episode.sources.count() > 1.0;
        if episode.failures < self.params.failures_min.max(1) || !several {
            return;
        }
        let most = episode.by_account.iter().max_by(|a, b| (a.1, b.0).cmp(&(b.1, a.0)));
        let p_value = share.powf(f64::from(episode.failures) - 1.0).max(1e-300);
        self.found.push(Guessing {
            source,
            target,
            account: most.map_or(super::UNKNOWN, |(account, _)| *account),
            span: (episode.from, episode.to),
            failures: episode.failures,
            accounts: episode.accounts.count(),
            sources: episode.sources.count(),
            succeeded: episode.succeeded,
            p_value,
            score: strength(p_value),
        });
    }
}

impl Episode {
    fn new(from: f64) -> Self {
        Self {
            from,
            to: from,
            seen: 0,
            failures: 0,
            by_account: Table::default(),
            accounts: Distinct::default(),
            sources: Distinct::default(),
            succeeded: None,
        }
    }
}

impl Behaviour for BruteForce {
    type Event = Logon;
    type Finding = Guessing;

    fn time(event: &Logon) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Logon) {
        self.now = self.now.max(event.time);
        let keys = [(event.target, Some(event.source), super::UNKNOWN), (event.target, None, event.account)];
        for key in keys {
            let paused = self.episodes.get(&key).is_some_and(|episode| self.now - episode.to > self.params.pause_s);
            if paused && let Some(episode) = self.episodes.remove(&key) {
                self.end(key, &episode);
            }
            match event.failed {
                true => self.fail(key, event),
                false => self.succeed(key, event.account),
            }
        }
        if self.now - self.swept > self.params.pause_s {
            self.sweep();
        }
    }

    fn finish(&mut self) {
        for (key, episode) in self.episodes.take(|_, _| true) {
            self.end(key, &episode);
        }
    }

    fn take(&mut self) -> Vec<Guessing> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;
    use crate::{Device, Error};

    fn found(events: &[Logon]) -> Vec<Guessing> {
        run(&Device::cpu(), BruteForce::new(Params::default()).unwrap(), events).unwrap()
    }

    /// 400 people who log on twice a day from their own host, failing one in eight times, for so many days.
    pub(crate) fn people(seed: u64, days: u32) -> Vec<Logon> {
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for account in 0..400 {
            for day in 0..2 * days {
                let mut time = f64::from(day) * 43_200.0 + traffic.unit() * 30_000.0;
                while traffic.unit() < 0.125 + 0.25 * f64::from(u8::from(time > 0.0)) * traffic.unit() {
                    events.push(Logon { time, source: account, target: account % 5, account, failed: true });
                    time += 3.0 + traffic.wait(10.0);
                }
                events.push(Logon { time, source: account, target: account % 5, account, failed: false });
            }
        }
        events
    }

    fn tries(source: u32, account: u32, from: f64, count: u32) -> impl Iterator<Item = Logon> {
        (0..count).map(move |i| Logon { time: from + 2.0 * f64::from(i), source, target: 1, account, failed: true })
    }

    #[test]
    fn guessing_stands_out_and_people_who_mistype_do_not() {
        let ordinary = people(5, 10);
        assert!(found(&ordinary).iter().all(|told| told.p_value > 1e-6), "{:?}", found(&ordinary));
        let mut events = ordinary;
        events.extend(tries(7_000, 3, 100_000.0, 60));
        events.push(Logon { time: 100_130.0, source: 7_000, target: 1, account: 3, failed: false });
        let told: Vec<_> = found(&events).into_iter().filter(|told| told.source == Some(7_000)).collect();
        let [attack] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((attack.failures, attack.account, attack.succeeded, attack.accounts), (60, 3, Some(3), 1.0));
        assert_eq!(attack.span, (100_000.0, 100_118.0));
        assert!(attack.score > 0.85 && attack.p_value < 1e-20, "{attack:?}");
    }

    #[test]
    fn a_source_that_often_mistypes_is_held_against_its_own_past() {
        let mut events = people(6, 10);
        let from = |day: u32, source, count| tries(source, source, f64::from(day) * 86_400.0 + 50_000.0, count);
        events.extend((0..10).flat_map(|day| from(day, 8_000, 6)).chain(from(9, 8_001, 6)).chain(from(9, 8_000, 60)));
        let told = found(&events);
        let p = |source, failures| {
            let told = told.iter().rfind(|told| told.source == Some(source) && told.failures == failures);
            told.map_or(1.0, |told| told.p_value)
        };
        assert!(p(8_000, 6) > 10.0 * p(8_001, 6), "{} {}", p(8_000, 6), p(8_001, 6));
        assert!(p(8_000, 66) < 1e-5, "an attack from there is one all the same");
    }

    #[test]
    fn many_sources_that_guess_one_account_are_told_together() {
        let events: Vec<_> = (0..30).flat_map(|source| tries(source, 9, 7.0 * f64::from(source), 2)).collect();
        let told = found(&events);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].source, told[0].account, told[0].sources, told[0].failures), (None, 9, 30.0, 60));
    }

    #[test]
    fn order_duplicates_and_missing_times_have_rules() {
        let mut events: Vec<_> = tries(1, 1, 0.0, 20).collect();
        let told = found(&events);
        events.reverse();
        assert_eq!(found(&events), told);
        events.push(Logon { time: f64::NAN, ..events[0] });
        events.push(Logon { time: f64::INFINITY, ..events[0] });
        assert_eq!(found(&events), told);
        events.extend_from_within(..20);
        assert_eq!(found(&events)[0].failures, 40, "equal events are events of their own");
        let mut late = BruteForce::new(Params::default()).unwrap();
        for time in [50.0, 60.0, 10.0, 70.0, 80.0] {
            late.push(&Logon { time, source: 1, target: 1, account: 1, failed: true });
        }
        late.finish();
        assert_eq!(late.take()[0].span, (50.0, 80.0));
        let wrong = Params { pause_s: 0.0, ..Params::default() };
        assert!(matches!(BruteForce::new(wrong), Err(Error::Parameter(_))));
    }

    #[test]
    fn a_pause_ends_an_episode_and_memory_is_bounded() {
        let events: Vec<_> = tries(1, 1, 0.0, 10).chain(tries(1, 1, 5_000.0, 12)).collect();
        assert_eq!(found(&events).iter().map(|told| told.failures).collect::<Vec<_>>(), [10, 12]);
        let mut many = BruteForce::new(Params { pause_s: 1e9, failures_min: 1 }).unwrap();
        for source in 0..300_000 {
            many.push(&Logon { time: f64::from(source), source, target: 0, account: source, failed: true });
            assert!(many.episodes.len() <= ENTITIES_MAX);
        }
        assert!(!many.take().is_empty(), "what is forgotten is told");
    }
}
