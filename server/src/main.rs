//! The `juno` binary.
//!
//! **Invariant:** nothing happens here; the library does what the command line says.

use std::process::ExitCode;

fn main() -> ExitCode {
    juno_server::run(std::env::args_os())
}
