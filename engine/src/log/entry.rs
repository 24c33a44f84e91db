//! Bodies of log entries: rows as Arrow IPC.
//!
//! **Invariant:** what `decode` gives is what `encode` took.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow::record_batch::RecordBatch;

use crate::memtable::Run;
use crate::schema::DELETED;
use crate::{Result, TableSchema};

/// Buffers are padded to this many bytes.
const ALIGNMENT: usize = 8;

/// A run as one Arrow IPC stream.
pub(crate) fn encode(run: &Run) -> Result<Vec<u8>> {
    let batch = match &run.deleted {
        None => run.batch.clone(),
        Some(deleted) => {
            let mut fields: Vec<_> = run.batch.schema_ref().fields().iter().cloned().collect();
            let mut columns = run.batch.columns().to_vec();
            fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
            columns.push(Arc::new(deleted.clone()) as ArrayRef);
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?
        }
    };
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
    let batch = reader.next().ok_or_else(|| ArrowError::IpcError("a stream without a batch".into()))??;
    let (batch, deleted) = match batch.schema_ref().index_of(DELETED) {
        Err(_) => (batch, None),
        Ok(index) => {
            let mut batch = batch;
            let deleted = batch.remove_column(index).as_boolean().clone();
            (batch, Some(deleted))
        }
    };
    Ok(Run::new(schema, batch, deleted)?.at(sequence))
}
