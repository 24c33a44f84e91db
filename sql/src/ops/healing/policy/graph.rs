//! Who calls whom.
//!
//! **Invariant:** a service is near itself, whether or not it calls or is called.

use std::collections::BTreeSet;

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
}
