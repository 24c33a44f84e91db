//! Requests that follow from the description of the interface, made by a property-based tester.
//!
//! **Invariant:** whatever is asked, no answer is a 5xx, and each has a status, a type and a form that the description names.

use std::process::Command;

use crate::drivers::python;
use crate::server;

const TESTER: &str = "from schemathesis.cli import schemathesis; schemathesis()";
const CHECKS: &str = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance";

#[test]
fn no_request_that_can_be_made_up_gets_an_answer_outside_of_the_description() {
    let Some(python) = python("schemathesis") else { return };
    let server = server();
    let output = Command::new(&python)
        .args(["-c", TESTER, "run", &server.url("/openapi.json"), "--checks", CHECKS, "--phases", "coverage,fuzzing"])
        .args(["--max-examples", "5", "--seed", "1", "--generation-database", "none", "--no-color"])
        .current_dir(server.data())
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("passed"), "it tested something: {text}");
}
