//! What is remembered of entities: a table of bounded size that forgets who was not seen for the longest.
//!
//! **Invariant:** never holds more than its limit, and the order of what it gives away does not depend on hashes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

/// A table without randomness of the system.
pub(super) type Table<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Values by key, each with the time when it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Kept<K, V> {
    table: Table<K, (f64, V)>,
    max: usize,
}

impl<K: Copy + Ord + Hash, V> Kept<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { table: Table::default(), max }
    }

    /// Makes room for a key where there is none, and gives what had to go, in order of the keys.
    pub(super) fn make_room(&mut self, key: &K) -> Vec<(K, V)> {
        if self.table.len() < self.max || self.table.contains_key(key) {
            return Vec::new();
        }
        let mut times: Vec<f64> = self.table.values().map(|(time, _)| *time).collect();
        let middle = times.len() / 2;
        let limit = *times.select_nth_unstable_by(middle, f64::total_cmp).1;
        self.take(|time, _| time <= limit)
    }

    /// The value of a key, seen now.
    pub(super) fn at(&mut self, key: K, time: f64, new: impl FnOnce() -> V) -> &mut V {
        let entry = self.table.entry(key).or_insert_with(|| (time, new()));
        entry.0 = time;
        &mut entry.1
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.table.get(key).map(|(_, value)| value)
    }

    /// Gives away the value of a key.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.table.remove(key).map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Gives away everything that `which` says of time and value, in order of the keys.
    pub(super) fn take(&mut self, which: impl Fn(f64, &V) -> bool) -> Vec<(K, V)> {
        let mut gone: Vec<(K, V)> = Vec::new();
        for (key, (_, value)) in self.table.extract_if(|_, (time, value)| which(*time, value)) {
            gone.push((key, value));
        }
        gone.sort_by_key(|(key, _)| *key);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_seen_for_the_longest_goes_first() {
        let mut kept = Kept::new(4);
        for (time, key) in [(0.0, 9u32), (1.0, 8), (2.0, 7), (3.0, 6), (4.0, 9)] {
            assert!(kept.make_room(&key).is_empty());
            kept.at(key, time, || key);
        }
        assert_eq!(kept.make_room(&5), [(6, 6), (7, 7), (8, 8)], "9 was seen again");
        assert_eq!((kept.len(), kept.get(&9)), (1, Some(&9)));
        assert_eq!((kept.remove(&9), kept.remove(&9)), (Some(9), None));
    }
}
