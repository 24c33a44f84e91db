//! Who calls whom.
//!
//! **Invariant:** a service is near itself, whether or not it calls or is called.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The calls between services.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    calls: BTreeSet<(String, String)>,
}

impl Graph {
    /// The graph of calls, caller first.
    pub fn new<S: Into<String>>(calls: impl IntoIterator<Item = (S, S)>) -> Self {
        Self { calls: calls.into_iter().map(|(caller, callee)| (caller.into(), callee.into())).collect() }
    }

    /// Whether one calls the other, or they are the same.
    pub fn near(&self, a: &str, b: &str) -> bool {
        a == b || self.callees(a).any(|callee| callee == b) || self.callees(b).any(|callee| callee == a)
    }

    /// Whom a service calls.
    pub fn callees<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a str> {
        let (service, calls) = (service.to_owned(), &self.calls);
        calls.iter().filter(move |(caller, _)| *caller == service).map(|(_, callee)| callee.as_str())
    }

    /// Who calls a service.
    pub fn callers<'a>(&'a self, service: &str) -> impl Iterator<Item = &'a str> {
        let service = service.to_owned();
        self.calls.iter().filter(move |(_, callee)| *callee == service).map(|(caller, _)| caller.as_str())
    }

    /// All services that a service reaches by calls, itself not.
    pub fn reached(&self, service: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&str> = self.callees(service).collect();
        while let Some(next) = waiting.pop() {
            if next != service && reached.insert(next) {
                waiting.extend(self.callees(next));
            }
        }
        reached
    }

    /// The services on the way of the fewest calls from one to another, both named; None where it is not reached.
    pub fn path<'a>(&'a self, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
        let mut callers: BTreeMap<&str, &str> = BTreeMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(caller) = waiting.pop_front() {
            for callee in self.callees(caller) {
                if callee == from || callers.contains_key(callee) {
                    continue;
                }
                callers.insert(callee, caller);
                waiting.push_back(callee);
            }
        }
        let mut at = *callers.get_key_value(to)?.0;
        let mut path = vec![at];
        while let Some(&caller) = callers.get(at) {
            path.push(caller);
            at = caller;
        }
        path.reverse();
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_one_call_either_way_and_reached_is_any_number_down() {
        let graph = Graph::new([("shop", "orders"), ("orders", "store"), ("store", "orders")]);
        assert!(graph.near("shop", "orders") && graph.near("orders", "shop") && graph.near("lone", "lone"));
        assert!(!graph.near("shop", "store"));
        assert_eq!(graph.reached("shop").into_iter().collect::<Vec<_>>(), ["orders", "store"]);
        assert_eq!(graph.callers("store").collect::<Vec<_>>(), ["orders"]);
    }

    #[test]
    fn a_path_has_the_fewest_calls() {
        let graph = Graph::new([("shop", "orders"), ("orders", "store"), ("store", "shop"), ("shop", "store")]);
        assert_eq!(graph.path("shop", "store"), Some(vec!["shop", "store"]));
        assert_eq!(graph.path("orders", "shop"), Some(vec!["orders", "store", "shop"]));
        assert_eq!((graph.path("shop", "shop"), graph.path("lone", "shop")), (None, None));
    }
}
