//! Views whose rows are worked out when they are read.
//!
//! **Invariant:** knows no rows; what a view shows is the business of who makes it.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::future::BoxFuture;

use crate::Result;

/// What computes the rows of a view.
type Compute = dyn Fn(SchemaRef) -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync;

/// A view with these columns, whose rows are one batch.
pub(crate) fn view(
    schema: SchemaRef,
    rows: impl Fn(&SchemaRef) -> Result<RecordBatch> + Send + Sync + 'static,
) -> Result<Arc<dyn TableProvider>> {
    asked(schema, move |schema| Box::pin(std::future::ready(rows(&schema))))
}

/// The same where working them out takes questions to the database.
pub(crate) fn asked(
    schema: SchemaRef,
    rows: impl Fn(SchemaRef) -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync + 'static,
) -> Result<Arc<dyn TableProvider>> {
    let rows = Rows { schema: Arc::clone(&schema), rows: Box::new(rows) };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))
}

struct Rows {
    schema: SchemaRef,
    rows: Box<Compute>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = (self.rows)(Arc::clone(&self.schema));
        let rows = async move { rows.await.map_err(DataFusionError::from) };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(rows)))
    }
}
