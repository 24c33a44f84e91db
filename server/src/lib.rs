//! juno-server: bytes to and from a session. The `juno` binary is a thin shell over this library.
//!
//! **Invariant:** no decision about data is made here; the doors turn bytes into values, hand them to a
//! [`juno_sql::Session`] and turn the answer into bytes.

mod access;
pub mod actuator;
mod answer;
pub mod autopilot;
pub mod bucket;
mod checked;
mod command;
pub mod config;
pub mod console;
mod csv;
pub mod demo;
pub mod demo_service;
pub mod error;
mod escalation;
pub mod http;
pub mod import;
mod ingest;
mod intelligence;
mod json;
#[doc(hidden)]
pub mod measured;
pub mod pgwire;
pub mod reach;
pub mod reload;
pub mod serve;
mod stopped;
pub mod telemetry;
mod tls;
mod trace;
pub mod v4;

pub use command::run;
