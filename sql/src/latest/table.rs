//! A table of which only the newest rows of groups are there.
//!
//! **Invariant:** filters that a scan is made with hold for the rows that groups are made of, not only for those that are given;
//! none is taken from above.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::node::{LatestScan, Pick};
use crate::Error;
use crate::scan::tag_filters;
use crate::table::Table;

/// Which rows of a group are the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    /// One with the latest time.
    One,
    /// All with the latest time; none of groups that have a null in their name.
    All,
}

/// The newest rows of a table by groups of tags.
pub(super) struct NewestTable {
    table: Arc<dyn TableProvider>,
    groups: Vec<String>,
    newest: Newest,
}

impl NewestTable {
    /// `table` is a [`Table`], the groups are tags of it.
    pub(super) fn new(table: Arc<dyn TableProvider>, groups: Vec<String>, newest: Newest) -> Self {
        NewestTable { table, groups, newest }
    }
}

impl fmt::Debug for NewestTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewestTable").field("table", &self.table).field("groups", &self.groups).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for NewestTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.table.downcast_ref::<Table>();
        let table =
            table.ok_or_else(|| DataFusionError::from(Error::Internal("no table to be the newest of".into())))?;
        let shown = self.schema();
        let wanted = projection.cloned().unwrap_or_else(|| (0..shown.fields().len()).collect());
        let stored = table.stored();
        let time = stored.time().map(|time| stored.columns[time].name.clone());
        let filtered = table.wanted(filters)?.tags.into_iter().map(|tag| stored.columns[tag.column].name.clone());
        let needed: Vec<String> = self.groups.iter().cloned().chain(time).chain(filtered).collect();
        let mut read = wanted.clone();
        for name in &needed {
            let index = shown.index_of(name)?;
            if !read.contains(&index) {
                read.push(index);
            }
        }
        let schema = Arc::new(shown.project(&read)?);
        let origin = table.origin(state, &schema, filters)?;
        let place = |name: &String| schema.index_of(name);
        let pick = Pick {
            filters: tag_filters(&origin, &schema).unwrap_or_default(),
            groups: self.groups.iter().map(place).collect::<Result<_, _>>()?,
            time: place(&needed[self.groups.len()])?,
            newest: self.newest,
            columns: wanted.len(),
        };
        let result = Arc::new(shown.project(&wanted)?);
        let scan = LatestScan::new(&stored.name, result, origin.table, origin.request).picking(pick);
        Ok(Arc::new(scan))
    }
}
