//! The database as its callers see it.
//!
//! **Invariant:** only the public interface, on a disk in memory unless the test is about files.

mod blocks;
mod concurrent;
mod crash;
mod durable;
mod fields;
mod full;
mod import;
mod model;
mod rows;
mod support;
