//! Bodies of log entries: rows as Arrow IPC.
//!
//! **Invariant:** what `decode` gives is what `encode` took.

use std::io::Cursor;

use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::mark::Marks;
use crate::memtable::Run;
use crate::schema::{DELETED, WHOLE};
use crate::{Result, TableSchema};

/// Buffers are padded to this many bytes.
const ALIGNMENT: usize = 8;

/// A run as one Arrow IPC stream.
pub(crate) fn encode(run: &Run) -> Result<Vec<u8>> {
    let batch = run.marks.append_to(&run.batch)?;
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let bytes = Vec::with_capacity(usize::try_from(run.bytes).unwrap_or(0) + 4096);
    let mut writer = StreamWriter::try_new_with_options(bytes, batch.schema_ref(), options)?;
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// The run that was encoded.
pub(crate) fn decode(schema: &TableSchema, body: &[u8], sequence: u64) -> Result<Run> {
    let mut reader = StreamReader::try_new(Cursor::new(body), None)?;
    let mut batch = reader.next().ok_or_else(|| ArrowError::IpcError("a stream without a batch".into()))??;
    let marks = Marks::of(&batch);
    for name in [DELETED, WHOLE] {
        if let Ok(index) = batch.schema_ref().index_of(name) {
            batch.remove_column(index);
        }
    }
    Ok(Run::new(schema, batch, marks)?.at(sequence))
}
