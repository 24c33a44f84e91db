//! What callers were told and what they saw while a database was open, and whether the model explains it.
//!
//! Every commit and every change of a definition has a sequence number, in the order in which they count; a snapshot says up
//! to which it sees. So the history has one order only, and each answer and each scan has one right value.
//!
//! **Invariant:** judges afterwards, from the records alone.

use std::collections::BTreeMap;

use crate::model::{Change, Model, Refusal, Table};
use crate::table::Wanted;

/// How a change ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// It is durable under this number.
    Committed(u64),
    /// A change of a definition is durable; its number is the one that no commit has.
    Defined,
    /// It was refused, by a state between these numbers.
    Refused(Refusal, u64, u64),
    /// Nobody knows before the next start.
    Unknown,
}

/// What a reader saw.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// Up to which change.
    pub(crate) sequence: u64,
    /// Of which table.
    pub(crate) name: String,
    /// Which rows were wanted.
    pub(crate) wanted: Wanted,
    /// What came; none where there was no such table.
    pub(crate) found: Option<Table>,
}

/// The records of one time that the database was open.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The changes asked for; those of one caller in order.
    pub(crate) changes: Vec<(Change, Outcome)>,
    /// What was read.
    pub(crate) observations: Vec<Observation>,
}

/// The states between two starts.
pub(crate) struct Judged {
    /// The newest state that somebody was told of.
    pub(crate) last: Model,
    /// Its number.
    pub(crate) sequence: u64,
    /// Changes that may count, too.
    unknown: Vec<Change>,
}

impl History {
    /// Checks everything that was said and seen between the state `first` with number `since` and the one with number
    /// `until`.
    pub(crate) fn judge(self, first: Model, since: u64, until: u64) -> Judged {
        let mut order = BTreeMap::new();
        let mut definitions = Vec::new();
        let mut unknown = Vec::new();
        for (change, outcome) in &self.changes {
            match outcome {
                Outcome::Committed(sequence) => {
                    let other = order.insert(*sequence, change);
                    assert!(other.is_none(), "two commits have number {sequence}: {change:?} and {other:?}");
                }
                Outcome::Defined => definitions.push(change),
                Outcome::Refused(..) => {}
                Outcome::Unknown => unknown.push(change.clone()),
            }
        }
        let mut definitions = definitions.into_iter();
        let mut states = vec![first];
        for sequence in since + 1..=until {
            let change = order.remove(&sequence).or_else(|| definitions.next());
            let change = change.unwrap_or_else(|| panic!("nobody made change {sequence} of {since}..={until}"));
            let mut next = states.last().expect("the first is there").clone();
            if let Err(refusals) = next.apply(change) {
                panic!("change {sequence} was accepted and should have been refused, {refusals:?}: {change:?}");
            }
            states.push(next);
        }
        assert!(order.is_empty(), "acknowledged, and not visible at {until}: {order:?}");
        assert_eq!(definitions.next(), None, "acknowledged, and not visible at {until}");
        self.judge_answers(&states, since);
        Judged { last: states.pop().expect("the first is there"), sequence: until, unknown }
    }

    fn judge_answers(&self, states: &[Model], since: u64) {
        let state = |sequence: u64| {
            let index = usize::try_from(sequence - since).expect("few changes");
            states.get(index).unwrap_or_else(|| panic!("somebody saw {sequence}, which nobody made"))
        };
        for (change, outcome) in &self.changes {
            let Outcome::Refused(refusal, from, to) = outcome else { continue };
            let refuses = |sequence| {
                state(sequence)
                    .clone()
                    .apply(change)
                    .is_err_and(|refusals: std::collections::BTreeSet<_>| refusals.contains(refusal))
            };
            assert!((*from..=*to).any(refuses), "no state of {from}..={to} refuses for {refusal:?}: {change:?}");
        }
        for seen in &self.observations {
            let right = state(seen.sequence).tables.get(&seen.name).map(|table| seen.wanted.of(table));
            assert!(seen.found == right, "a wrong read at {}:\n{}", seen.sequence, difference(seen, right.as_ref()));
        }
    }
}

fn difference(seen: &Observation, right: Option<&Table>) -> String {
    let (Some(found), Some(right)) = (&seen.found, right) else {
        return format!("table {}: found {:?}, right is {right:?}", seen.name, seen.found);
    };
    let mut text =
        format!("table {}, {:?}\nfields {:?}, right are {:?}\n", seen.name, seen.wanted, found.fields, right.fields);
    let keys: std::collections::BTreeSet<_> = found.rows.keys().chain(right.rows.keys()).collect();
    for key in keys.into_iter().filter(|key| found.rows.get(key) != right.rows.get(key)) {
        text.push_str(&format!("{key:?}: found {:?}, right is {:?}\n", found.rows.get(key), right.rows.get(key)));
    }
    text
}

impl Judged {
    /// The state that a start must have found: the last one, with some of the changes that nobody was told about.
    pub(crate) fn recovered(self, sequence: u64, found: &Model) {
        let told = self.sequence;
        let more =
            sequence.checked_sub(told).unwrap_or_else(|| panic!("change {told} was acknowledged, {sequence} is left"));
        let more = usize::try_from(more).expect("few changes");
        assert!(more <= self.unknown.len(), "{more} changes came from nowhere after {told}");
        let mut nearest = String::new();
        if reaches(&self.last, &self.unknown, more, found, &mut nearest) {
            return;
        }
        panic!("after a restart at {sequence}, {told} of which were acknowledged:\n{nearest}of {:?}", self.unknown);
    }
}

/// Whether `steps` of these changes, in any order, lead from one state to another.
fn reaches(from: &Model, changes: &[Change], steps: usize, to: &Model, nearest: &mut String) -> bool {
    if steps == 0 {
        *nearest = missing(from, to);
        return from == to;
    }
    (0..changes.len()).any(|index| {
        let mut next = from.clone();
        let mut rest = changes.to_vec();
        let change = rest.remove(index);
        next.apply(&change).is_ok() && reaches(&next, &rest, steps - 1, to, nearest)
    })
}

fn missing(right: &Model, found: &Model) -> String {
    let names: std::collections::BTreeSet<_> = right.tables.keys().chain(found.tables.keys()).collect();
    let mut text = String::new();
    for name in names {
        let seen = found.tables.get(name).map(|table| Table::clone(table));
        let right = right.tables.get(name).map(AsRef::as_ref);
        if seen.as_ref() != right {
            let seen = Observation { sequence: 0, name: name.clone(), wanted: Wanted::ALL, found: seen };
            text.push_str(&difference(&seen, right));
        }
    }
    text
}
