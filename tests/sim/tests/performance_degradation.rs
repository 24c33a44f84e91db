//! What makes services slow or wrong: added latency, failing requests, a leak of memory.
//!
//! The short form: each once, in a fleet of real processes. `cargo run --release -p juno-benches --bin chaos` is the long one.
//!
//! **Invariant:** what juno calls healed is checked by asking the services.

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    juno_tests::chaos::suite(&["slow", "errors", "leak"])?;
    Ok(ExitCode::SUCCESS)
}
