//! The commands of the binary: what they print, what they refuse, and their exit codes.
//!
//! **Invariant:** each test has a directory of its own and asks the real program.

use crate::name_program;

#[test]
fn an_unknown_subcommand_is_exit_code_2() {
    name_program();
    let output = juno_tests::juno(&["sing"]).output().expect("juno runs");
    assert_eq!(output.status.code(), Some(2));
}
