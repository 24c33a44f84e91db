//! InfluxDB line protocol over HTTP: what is stored, what is refused, and how the refusal is said.
//!
//! **Invariant:** whatever a body holds, its good lines are stored, its bad lines are named, and nothing else is lost.

use crate::client::{Postgres, http};
use crate::server;

#[test]
fn a_line_is_stored() {
    let server = server();
    assert_eq!(http(&server, "POST", "/write", &[], b"m v=1 1000").status, 204);
    assert_eq!(Postgres::connect(&server).value("SELECT count(*) FROM m"), "1");
}
