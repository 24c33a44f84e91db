//! The HTTP door: probes, queries in every format, the endpoints' pages, and problems that say what to do.
//!
//! **Invariant:** every answer is judged by status, media type and content, as a stranger's client would.

use crate::client::get;
use crate::server;

#[test]
fn probes_answer() {
    let server = server();
    assert_eq!(get(&server, "/healthz").status, 200);
    assert_eq!(get(&server, "/readyz").status, 200);
}
