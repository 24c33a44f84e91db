//! The database as its callers see it.
//!
//! **Invariant:** only the public interface, on a disk in memory unless the test is about files.

mod alter;
mod backup;
mod blocks;
mod compact;
mod concurrent;
mod crash;
mod durable;
mod fields;
mod fixture;
mod follow;
mod full;
mod import;
mod model;
mod retention;
mod rollups;
mod rows;
mod support;
