//! What makes services slow or wrong: added latency, failing requests, a leak of memory, a bad configuration, two faults at once.
//!
//! The short form: each once, in fleets of real processes. `cargo run --release -p juno-benches --bin chaos` is the long one.
//!
//! **Invariant:** what juno calls healed is checked by asking the services.

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    juno_tests::chaos::suite(&juno_tests::chaos::PERFORMANCE)?;
    Ok(ExitCode::SUCCESS)
}
