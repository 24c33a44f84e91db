//! The one integration binary: a real juno process asked by real clients, and the rules that the tree keeps.
//!
//! **Invariant:** tests run in any order, none sleeps, and each has a server or directory of its own.

mod backup;
mod bucket;
mod catalog;
mod client;
mod command;
mod copy;
mod crash;
mod deploy;
mod disk;
mod drivers;
mod formats;
mod history;
mod import;
mod limits;
mod line_protocol;
mod machine_learning;
mod operations;
mod reference;
mod reload;
mod rest;
mod security;
mod slt;
mod tidy;
mod users;

use juno_tests::Server;

/// A server of the binary that cargo built beside these tests.
fn server() -> Server {
    name_program();
    Server::start().expect("juno starts")
}

fn name_program() {
    juno_tests::use_program(env!("CARGO_BIN_EXE_juno_under_test"));
}

/// Says loudly that something was not tested; where the environment demands it, that is a failure.
fn skip(what: &str, demand: &str) {
    assert!(std::env::var_os(demand).is_none(), "{demand} is set, and {what}");
    eprintln!("SKIPPED: {what}");
}
