//! Failures of the infrastructure: a process killed, stopped, or one that hangs, a full disk, a database that is not there.
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
    juno_tests::chaos::suite(&juno_tests::chaos::INFRASTRUCTURE)?;
    Ok(ExitCode::SUCCESS)
}
