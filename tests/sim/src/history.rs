//! What callers were told and what they saw while a database was open, and whether the model explains it.
//!
//! Every commit and every change of a definition has a sequence number, in the order in which they count; a snapshot says up
//! to which it sees. So the history has one order only, and each answer and each scan has one right value. Imports alone have
//! no number: each counts at one place between two changes, and the history must have an explanation for some such places.
//!
//! **Invariant:** judges afterwards, from the records alone.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::model::{Change, Model, Refusal, Table, Write};
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

/// An import of rows.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    /// The rows.
    pub(crate) rows: Write,
    /// The changes behind one of which it counts; it may not count at all where the second is absent.
    pub(crate) from: u64,
    /// See above.
    pub(crate) to: Option<u64>,
}

/// The records of one time that the database was open.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The changes asked for; those of one caller in order.
    pub(crate) changes: Vec<(Change, Outcome)>,
    /// What was read.
    pub(crate) observations: Vec<Observation>,
    /// Imports, which came one after the other. Only the last may be one that nobody knows of whether it counts.
    pub(crate) imports: Vec<Import>,
    /// The table that is imported into.
    pub(crate) importing: Option<String>,
    /// The table whose columns change names or go, which an import must not see by half.
    pub(crate) altering: Option<String>,
}

/// The states between two starts.
pub(crate) struct Judged {
    /// The newest states that explain all: one but where the place of an import is open.
    pub(crate) last: Vec<Model>,
    /// The number of them.
    pub(crate) sequence: u64,
    /// Changes that may count, too.
    unknown: Vec<Change>,
}

/// The changes in their order.
struct Order<'a> {
    since: u64,
    changes: Vec<&'a Change>,
}

/// States with the imports at certain places.
struct Timeline {
    since: u64,
    /// The states that some change left, and those that an import made of them.
    states: Vec<Vec<Model>>,
}

impl History {
    /// Checks everything that was said and seen between the state `first` with number `since` and the one with number
    /// `until`.
    pub(crate) fn judge(self, first: &Model, since: u64, until: u64) -> Judged {
        let (order, unknown) = self.order(since, until);
        let mut last = Vec::new();
        let mut reason = None;
        for places in self.places(until) {
            let judged = order.timeline(first, &self.imports, &places).and_then(|timeline| {
                self.judge_answers(&timeline)?;
                Ok(timeline.last())
            });
            match judged {
                Ok(model) => last.push(model),
                Err(wrong) => reason = reason.or(Some(wrong)),
            }
        }
        if last.is_empty() {
            let reason = reason.unwrap_or_else(|| "an import has no place".into());
            panic!("{reason}; the imports were {:?}", self.imports);
        }
        Judged { last, sequence: until, unknown }
    }

    /// The changes by their numbers, and those that may yet count.
    fn order(&self, since: u64, until: u64) -> (Order<'_>, Vec<Change>) {
        let mut numbered = BTreeMap::new();
        let (mut definitions, mut unknown) = (Vec::new(), Vec::new());
        for (change, outcome) in &self.changes {
            match (outcome, change) {
                (Outcome::Committed(sequence), _) => {
                    let other = numbered.insert(*sequence, change);
                    assert!(other.is_none(), "two commits have number {sequence}: {change:?} and {other:?}");
                }
                (Outcome::Defined, _) => definitions.push((change, true)),
                (Outcome::Unknown, Change::Commit(_)) => unknown.push(change.clone()),
                // The last of them: it may count already.
                (Outcome::Unknown, _) => definitions.push((change, false)),
                (Outcome::Refused(..), _) => {}
            }
        }
        let mut definitions = definitions.into_iter();
        let mut changes = Vec::new();
        for sequence in since + 1..=until {
            let change = numbered.remove(&sequence).or_else(|| definitions.next().map(|(change, _)| change));
            changes.push(change.unwrap_or_else(|| panic!("nobody made change {sequence} of {since}..={until}")));
        }
        assert!(numbered.is_empty(), "acknowledged, and not visible at {until}: {numbered:?}");
        for (change, certain) in definitions {
            assert!(!certain, "acknowledged, and not visible at {until}: {change:?}");
            unknown.push(change.clone());
        }
        (Order { since, changes }, unknown)
    }

    /// All places that the imports can have; none for one that does not count.
    fn places(&self, until: u64) -> Vec<Vec<Option<u64>>> {
        let mut places = vec![Vec::new()];
        for import in &self.imports {
            let mut all: Vec<Option<u64>> = (import.from..=import.to.unwrap_or(until)).map(Some).collect();
            all.extend(import.to.is_none().then_some(None));
            let longer = |before: Vec<Option<u64>>| {
                let after = |place: Option<u64>| [before.as_slice(), &[place]].concat();
                all.iter().copied().map(after).collect::<Vec<_>>()
            };
            places = places.into_iter().flat_map(longer).collect();
        }
        places
    }

    fn judge_answers(&self, timeline: &Timeline) -> Result<(), String> {
        for (change, outcome) in &self.changes {
            let Outcome::Refused(refusal, from, to) = outcome else { continue };
            let refuses = |model: &Model| {
                model.refusals(change).contains(refusal)
                    || (*refusal == Refusal::Duplicate && model.open_to_both(change))
            };
            if !timeline.at(*from..=*to).any(refuses) {
                return Err(format!("no state of {from}..={to} refuses for {refusal:?}: {change:?}"));
            }
        }
        for seen in &self.observations {
            let right = |model: &Model| match (model.tables.get(&seen.name), &seen.found) {
                (None, None) => true,
                (Some(table), Some(found)) => seen.wanted.of(table).explains(found),
                _ => false,
            };
            if !timeline.at(seen.sequence..=seen.sequence).any(right) {
                let right = timeline.at(seen.sequence..=seen.sequence).last().expect("each number has a state");
                let right = right.tables.get(&seen.name).map(|table| seen.wanted.of(table));
                return Err(format!("a wrong read at {}:\n{}", seen.sequence, difference(seen, right.as_ref())));
            }
        }
        Ok(())
    }
}

impl Order<'_> {
    /// All states where the imports have these places.
    fn timeline(&self, first: &Model, imports: &[Import], places: &[Option<u64>]) -> Result<Timeline, String> {
        let mut states: Vec<Vec<Model>> = Vec::new();
        for sequence in self.since..=self.since + self.changes.len() as u64 {
            let mut now = match states.last().and_then(|before| before.last()) {
                None => vec![first.clone()],
                Some(before) => vec![self.next(before, sequence)?],
            };
            for (import, _) in imports.iter().zip(places).filter(|(_, place)| **place == Some(sequence)) {
                let mut after = now.last().expect("there is one").clone();
                after.force(&Change::Commit(vec![import.rows.clone()]));
                now.push(after);
            }
            states.push(now);
        }
        Ok(Timeline { since: self.since, states })
    }

    fn next(&self, before: &Model, sequence: u64) -> Result<Model, String> {
        let change = self.changes[usize::try_from(sequence - self.since - 1).expect("few changes")];
        let refusals = before.refusals(change);
        let open = before.open_to_both(change) && refusals.iter().all(|refusal| *refusal == Refusal::Duplicate);
        if !refusals.is_empty() && !open {
            return Err(format!(
                "change {sequence} was accepted and should have been refused, {refusals:?}: {change:?}"
            ));
        }
        let mut after = before.clone();
        after.force(change);
        Ok(after)
    }
}

impl Timeline {
    /// The states with these numbers.
    fn at(&self, sequences: RangeInclusive<u64>) -> impl Iterator<Item = &Model> {
        sequences.flat_map(|sequence| {
            let index = sequence.checked_sub(self.since).and_then(|index| usize::try_from(index).ok());
            let states = index.and_then(|index| self.states.get(index));
            states.unwrap_or_else(|| panic!("somebody saw {sequence}, which nobody made"))
        })
    }

    fn last(&self) -> Model {
        self.states.last().and_then(|states| states.last()).expect("the first is there").clone()
    }
}

fn difference(seen: &Observation, right: Option<&Table>) -> String {
    let (Some(found), Some(right)) = (&seen.found, right) else {
        return format!("table {}: found {:?}, right is {right:?}", seen.name, seen.found);
    };
    let mut text = format!(
        "table {}, {:?}\nfields {:?}, right are {:?}; kept from {:?}, right is {:?}; expired {:?}\n",
        seen.name, seen.wanted, found.fields, right.fields, found.keep, right.keep, right.expired
    );
    let keys: std::collections::BTreeSet<_> = found.rows.keys().chain(right.rows.keys()).collect();
    for key in keys.into_iter().filter(|key| found.rows.get(key) != right.rows.get(key)) {
        text.push_str(&format!("{key:?}: found {:?}, right is {:?}\n", found.rows.get(key), right.rows.get(key)));
    }
    text
}

impl Judged {
    /// Checks what the database holds before it ends.
    pub(crate) fn holds(&self, found: &Model) {
        let right = self.last.iter().any(|last| last.explains(found));
        assert!(right, "while it is open, at {}:\n{}", self.sequence, missing(&self.last[0], found));
    }

    /// Checks what a start found of one table, where changes that nobody was told about may count or not.
    pub(crate) fn may_hold(&self, name: &str, found: &Table) {
        if self.unknown.is_empty() {
            let right = |last: &Model| last.tables.get(name).is_some_and(|table| table.explains(found));
            assert!(self.last.iter().any(right), "beside a damaged part, table {name} has other rows: {found:?}");
        }
    }

    /// The state that a start must have found: the last one, with some of the changes that nobody was told about. Answers it.
    pub(crate) fn recovered(self, sequence: u64, found: &Model) -> Model {
        let told = self.sequence;
        let more =
            sequence.checked_sub(told).unwrap_or_else(|| panic!("change {told} was acknowledged, {sequence} is left"));
        let more = usize::try_from(more).expect("few changes");
        assert!(more <= self.unknown.len(), "{more} changes came from nowhere after {told}");
        let mut nearest = String::new();
        let reached = self.last.iter().find_map(|last| reaches(last, &self.unknown, more, found, &mut nearest));
        reached.unwrap_or_else(|| {
            panic!("after a restart at {sequence}, {told} of which were acknowledged:\n{nearest}of {:?}", self.unknown)
        })
    }
}

/// Where `steps` of these changes, in any order, lead from one state to another, that other one.
fn reaches(from: &Model, changes: &[Change], steps: usize, to: &Model, nearest: &mut String) -> Option<Model> {
    if steps == 0 {
        if from.explains(to) {
            return Some(from.settled(to));
        }
        *nearest = missing(from, to);
        return None;
    }
    (0..changes.len()).find_map(|index| {
        let mut next = from.clone();
        let mut rest = changes.to_vec();
        let change = rest.remove(index);
        if !next.refusals(&change).is_empty() && !from.open_to_both(&change) {
            return None;
        }
        next.force(&change);
        reaches(&next, &rest, steps - 1, to, nearest)
    })
}

fn missing(right: &Model, found: &Model) -> String {
    let names: std::collections::BTreeSet<_> = right.tables.keys().chain(found.tables.keys()).collect();
    let mut text = String::new();
    for name in names {
        let seen = found.tables.get(name).map(|table| Table::clone(table));
        let right = right.tables.get(name).map(AsRef::as_ref);
        if seen.as_ref().zip(right).is_none_or(|(seen, right)| !right.explains(seen)) {
            let seen = Observation { sequence: 0, name: name.clone(), wanted: Wanted::ALL, found: seen };
            text.push_str(&difference(&seen, right));
        }
    }
    text
}
