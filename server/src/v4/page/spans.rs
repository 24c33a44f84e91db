//! How far back pages went lately: what makes the next one like it cheap.
//!
//! **Invariant:** a guess only: a page that finds too few rows in it looks through everything.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::v4::Pairs;

/// What is guessed of a page that was never asked for, in microseconds: a day.
const FIRST_US: i64 = 86_400_000_000;
/// The least span, in microseconds.
const LEAST_US: i64 = 1_000_000;
/// Kinds of pages that are remembered; with more, all are forgotten.
const KINDS_MAX: usize = 1_000;
/// Longer filters are all one kind.
const KEY_BYTES_MAX: usize = 512;

/// The span of each kind of page; none where all rows are few.
#[derive(Debug, Default)]
pub(crate) struct Spans(Mutex<HashMap<String, Option<i64>>>);

impl Spans {
    /// From when on rows are looked for first; none where all of them are.
    pub(super) fn since(&self, key: &str, newest_us: i64) -> Option<i64> {
        let span_us = self.0.lock().get(key).copied().unwrap_or(Some(FIRST_US))?;
        Some(newest_us.saturating_sub(span_us))
    }

    /// Keeps how far back a page went that had a next one; none for one that was the last.
    pub(super) fn learn(&self, key: &str, went_us: Option<i64>) {
        let mut spans = self.0.lock();
        if spans.len() >= KINDS_MAX && !spans.contains_key(key) {
            spans.clear();
        }
        spans.insert(key.to_owned(), went_us.map(|went_us| went_us.max(LEAST_US).saturating_mul(2)));
    }
}

/// The kind of a page: its path, its filters and its length.
pub(super) fn key(path: &str, pairs: &Pairs) -> String {
    let mut filters: Vec<String> = pairs
        .iter()
        .filter(|(name, _)| !["cursor", "from", "to", "order", "count"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    filters.sort();
    let key = format!("{path}?{}", filters.join("&"));
    if key.len() > KEY_BYTES_MAX { path.to_owned() } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_page_is_looked_for_twice_as_far_back_as_the_last_one_went() {
        let spans = Spans::default();
        assert_eq!(spans.since("a", FIRST_US), Some(0), "at first a day");
        spans.learn("a", Some(5_000_000));
        assert_eq!((spans.since("a", 50_000_000), spans.since("b", FIRST_US)), (Some(40_000_000), Some(0)));
        spans.learn("a", None);
        assert_eq!(spans.since("a", 50_000_000), None, "there is nothing to leave out");
        for kind in 0..2 * KINDS_MAX {
            spans.learn(&kind.to_string(), None);
        }
        assert!(spans.0.lock().len() <= KINDS_MAX);
    }

    #[test]
    fn pages_are_of_a_kind_by_path_filters_and_length() {
        let pairs = |all: &[(&str, &str)]| -> Pairs {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let one = pairs(&[("severity", "high"), ("limit", "5"), ("cursor", "x")]);
        let other = pairs(&[("limit", "5"), ("from", "now-7d"), ("severity", "high")]);
        assert_eq!(key("/a", &one), key("/a", &other));
        assert_ne!(key("/a", &one), key("/b", &one));
        assert_ne!(key("/a", &one), key("/a", &pairs(&[("limit", "5")])));
        assert_eq!(key("/a", &pairs(&[("q", &"x".repeat(600))])), "/a");
    }
}
