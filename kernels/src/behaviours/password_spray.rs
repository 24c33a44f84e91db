//! Password spraying: one source that tries many accounts, few times each (ATT&CK T1110.003, Password Spraying).
//!
//! **Formula.** For each source and window (default an hour), the accounts that failed at most `tries_max` times and did not
//! log on from there in the window are counted. The p-value is the chance of so many by the source's own past, with the
//! mean of all sources' windows as the prior (Gamma–Poisson, see `counts`; before any, half an account an hour). The score is its strength. An office behind
//! one address has a past of many failing accounts; an attacker has none.
//!
//! **Rules.** Fewer than `accounts_min` such accounts tell nothing. 4,096 accounts of a source and window are told apart,
//! further ones are passed over. Windows in which a source fails nothing are zeros of its past.
//!
//! **Source.** MITRE ATT&CK T1110.003; the count model is Gamma–Poisson (Gelman et al., section 2.6).
//!
//! **Invariant:** a window is told once, when it is over.

use std::collections::BTreeMap;

use super::counts::Past;
use super::failed_logons::Logon;
use super::kept::Kept;
use super::{Behaviour, ENTITIES_MAX, positive, strength, window_of};
use crate::Result;

/// Accounts of a source and window that are told apart.
const ACCOUNTS_MAX: usize = 4_096;
/// Accounts a window before anything is known.
const PRIOR: f64 = 0.5;

/// What counts as spraying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Length of a window in seconds.
    pub window_s: f64,
    /// The fewest accounts that are told.
    pub accounts_min: u32,
    /// The most failures of an account that is sprayed; with more it is guessed.
    pub tries_max: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { window_s: 3_600.0, accounts_min: 5, tries_max: 5 }
    }
}

/// A window of a source that sprayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Spray {
    /// Who sprayed.
    pub source: u32,
    /// The first and the last failure.
    pub span: (f64, f64),
    /// Accounts that were tried few times, without success.
    pub accounts: u32,
    /// Failures of them.
    pub failures: u32,
    /// Accounts that logged on from there in the window after they had failed.
    pub succeeded: u32,
    /// Accounts a window that the source's past and its peers let expect.
    pub expected: f64,
    /// The chance of at least so many.
    pub p_value: f64,
    /// Its strength, 0 to below 1.
    pub score: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    failures: u32,
    succeeded: bool,
}

#[derive(Clone, Debug, Default)]
struct Open {
    /// The first and the last failure, none before one.
    span: Option<(f64, f64)>,
    accounts: BTreeMap<u32, Account>,
}

/// Told from a stream of logons.
#[derive(Clone, Debug)]
pub struct PasswordSpray {
    params: Params,
    pasts: Kept<u32, Past>,
    open: BTreeMap<u32, Open>,
    window: i64,
    now: f64,
    /// Accounts and windows of all sources.
    all: (f64, f64),
    found: Vec<Spray>,
}

impl PasswordSpray {
    /// Nothing seen yet.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`].
    pub fn new(params: Params) -> Result<Self> {
        positive("the window of password spraying", params.window_s)?;
        Ok(Self {
            params,
            pasts: Kept::new(ENTITIES_MAX),
            open: BTreeMap::new(),
            window: i64::MIN,
            now: f64::NEG_INFINITY,
            all: (0.0, 0.0),
            found: Vec::new(),
        })
    }

    fn close(&mut self) {
        let peers = (PRIOR * 20.0 + self.all.0) / (20.0 + self.all.1);
        for (source, open) in std::mem::take(&mut self.open) {
            self.pasts.make_room(&source);
            let window = self.window;
            let past = self.pasts.at(source, self.now, || Past::new(window));
            past.pass(window);
            let tried = || open.accounts.values().filter(|account| account.failures > 0);
            let sprayed = || tried().filter(|account| account.failures <= self.params.tries_max && !account.succeeded);
            let accounts = sprayed().count() as u32;
            if let Some(span) = open.span
                && accounts >= self.params.accounts_min.max(1)
            {
                let p_value = past.p_value(accounts, peers);
                self.found.push(Spray {
                    source,
                    span,
                    accounts,
                    failures: sprayed().map(|account| account.failures).sum(),
                    succeeded: tried().filter(|account| account.succeeded).count() as u32,
                    expected: past.mean(peers),
                    p_value,
                    score: strength(p_value),
                });
            }
            self.all.0 += past.learn(window, accounts, peers);
            self.all.1 += 1.0;
        }
    }
}

impl Behaviour for PasswordSpray {
    type Event = Logon;
    type Finding = Spray;

    fn time(event: &Logon) -> f64 {
        event.time
    }

    fn push(&mut self, event: &Logon) {
        self.now = self.now.max(event.time);
        let window = window_of(self.now, self.params.window_s);
        if window != self.window {
            self.close();
            self.window = window;
        }
        if self.open.len() >= ENTITIES_MAX && !self.open.contains_key(&event.source) {
            return;
        }
        let now = self.now;
        let open = self.open.entry(event.source).or_default();
        if open.accounts.len() >= ACCOUNTS_MAX && !open.accounts.contains_key(&event.account) {
            return;
        }
        let account = open.accounts.entry(event.account).or_default();
        if event.failed {
            account.failures = account.failures.saturating_add(1);
            open.span = Some((open.span.map_or(now, |span| span.0), now));
        } else {
            account.succeeded = true;
        }
    }

    fn finish(&mut self) {
        self.close();
    }

    fn take(&mut self) -> Vec<Spray> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::behaviours::run;
    use crate::behaviours::traffic::Traffic;
    use crate::{Device, Error};

    const DAY: u32 = 24;

    fn found(events: &[Logon]) -> Vec<Spray> {
        run(&Device::cpu(), PasswordSpray::new(Params::default()).unwrap(), events).unwrap()
    }

    /// Ten offices behind one address each; in the largest one twelve accounts an hour fail and give up.
    fn offices(seed: u64, hours: u32) -> Vec<Logon> {
        let mut traffic = Traffic::new(seed);
        let mut events = Vec::new();
        for hour in 0..hours {
            for source in 0..10 {
                for _ in 0..traffic.poisson(0.5 + 0.14 * f64::from(source * source)) {
                    let time = 3_600.0 * (f64::from(hour) + traffic.unit());
                    let account = source * 1_000 + traffic.below(900);
                    events.push(Logon { time, source, target: 0, account, failed: true });
                }
            }
        }
        events
    }

    fn spray(source: u32, from: f64, accounts: u32) -> impl Iterator<Item = Logon> {
        (0..accounts).map(move |account| Logon {
            time: from + 30.0 * f64::from(account),
            source,
            target: 0,
            account: 50_000 + account,
            failed: true,
        })
    }

    #[test]
    fn many_accounts_stand_out_from_a_source_that_has_few_and_not_from_an_office() {
        let ordinary = offices(1, 20 * DAY);
        let day = |told: &&Spray| told.span.0 >= 86_400.0;
        let alarms = found(&ordinary).iter().filter(day).filter(|told| told.p_value < 1e-3).count();
        assert!(alarms <= 10, "{alarms} false alarms at one in a thousand of 4,560 windows after the first day");
        let mut events = ordinary;
        events.extend(spray(77, 3_600.0 * 400.0 + 60.0, 40));
        events.extend(spray(0, 3_600.0 * 401.0 + 60.0, 40));
        events.push(Logon { time: 3_600.0 * 400.0 + 3_000.0, source: 77, target: 0, account: 50_003, failed: false });
        let told: Vec<_> = found(&events).into_iter().filter(|told| told.accounts >= 35).collect();
        let [new, own] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((new.source, new.accounts, new.succeeded, new.failures), (77, 39, 1, 39));
        assert!(new.score > 0.6 && own.source == 0 && own.score > 0.85, "{told:?}");
    }

    #[test]
    fn an_account_that_is_guessed_or_found_its_password_is_not_sprayed() {
        let guessed = (0..50).map(|i| Logon { time: f64::from(i), source: 1, target: 0, account: 5, failed: true });
        assert!(found(&guessed.collect::<Vec<_>>()).is_empty());
        let found_out =
            (0..40u32).map(|i| Logon { time: f64::from(i), source: 1, target: 0, account: i / 2, failed: i % 2 == 0 });
        assert!(found(&found_out.collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn order_and_missing_times_have_rules() {
        let mut events: Vec<_> = spray(1, 0.0, 20).collect();
        let told = found(&events);
        assert_eq!((told.len(), told[0].span), (1, (0.0, 570.0)));
        events.reverse();
        events.push(Logon { time: f64::NAN, ..events[0] });
        assert_eq!(found(&events), told);
        assert!(found(&[]).is_empty());
        let wrong = Params { window_s: f64::NAN, ..Params::default() };
        assert!(matches!(PasswordSpray::new(wrong), Err(Error::Parameter(_))));
    }
}
