//! Uploads to `POST /api/v4/ingest`: Parquet, Arrow, NDJSON and CSV, whole or not at all.
//!
//! **Invariant:** after a refused upload the table holds what it held before.

use crate::client::{Postgres, http};
use crate::server;

#[test]
fn csv_is_stored() {
    let server = server();
    let answer = http(&server, "POST", "/api/v4/ingest?table=m", &[("Content-Type", "text/csv")], b"time,v\n2026-01-01T00:00:00Z,1\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(Postgres::connect(&server).value("SELECT count(*) FROM m"), "1");
}
