//! The juno that the integration tests run as a process of its own.
//!
//! **Invariant:** the same main as the juno binary; cargo builds this one beside the tests.

fn main() -> std::process::ExitCode {
    juno_server::run(std::env::args_os())
}
