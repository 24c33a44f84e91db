//! The logical node that adds missing buckets to the groups of an aggregate.
//!
//! **Invariant:** its columns are its input's, in the same order; what is not a key may be null.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

/// `keys` columns name the group and the bucket, of which the column at `time` is the bucket; the others are aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GapFill {
    pub(super) input: LogicalPlan,
    pub(super) schema: DFSchemaRef,
    pub(super) time: usize,
    pub(super) keys: usize,
    pub(super) width: Expr,
    pub(super) start: Option<Expr>,
    pub(super) finish: Option<Expr>,
}

impl GapFill {
    pub(super) fn try_new(
        input: LogicalPlan,
        time: usize,
        keys: usize,
        width: Expr,
        start: Option<Expr>,
        finish: Option<Expr>,
    ) -> Result<Self> {
        let given = input.schema();
        let fields = given.iter().enumerate().map(|(index, (qualifier, field))| {
            let nullable = field.is_nullable() || index >= keys;
            (qualifier.cloned(), Arc::new(field.as_ref().clone().with_nullable(nullable)))
        });
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), given.metadata().clone())?);
        Ok(GapFill { input, schema, time, keys, width, start, finish })
    }
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [Some(&self.width), self.start.as_ref(), self.finish.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bound: &Option<Expr>| bound.as_ref().map_or("none".to_owned(), ToString::to_string);
        write!(f, "GapFill: every={}, start={}, finish={}", self.width, shown(&self.start), shown(&self.finish))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.pop().ok_or_else(|| DataFusionError::Internal("GapFill has one input".into()))?;
        let mut exprs = exprs.into_iter();
        let width = exprs.next().ok_or_else(|| DataFusionError::Internal("GapFill has a width".into()))?;
        let start = self.start.as_ref().and_then(|_| exprs.next());
        let finish = self.finish.as_ref().and_then(|_| exprs.next());
        GapFill::try_new(input, self.time, self.keys, width, start, finish)
    }
}
