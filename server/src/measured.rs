//! What the benches measure of the doors: bytes to columns and columns to bytes, without a socket.
//!
//! **Invariant:** no door of its own; calls what the doors call.

use arrow::record_batch::RecordBatch;
use juno_sql::Result;

use crate::ingest::line_protocol;
use crate::ingest::precision::Precision;

/// Parses line protocol in nanoseconds for tables that are not there yet; answers how many lines are good.
pub fn parse_lines(text: &[u8]) -> u64 {
    line_protocol::parse(text, Precision::Nanoseconds, 0, &|_| None).accepted
}

/// Encodes rows as DataRow messages; answers their bytes.
///
/// # Errors
/// A column of a type that no client takes.
pub fn encode_rows(batch: &RecordBatch, binary: bool) -> Result<usize> {
    crate::pgwire::encoded_bytes(batch, binary)
}
