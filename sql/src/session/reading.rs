//! The rows of a plan: optimised, planned and started over a snapshot.
//!
//! **Invariant:** a state serves one statement at a time, and what a statement put into it is gone before the next.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use juno_engine::Snapshot;
use parking_lot::Mutex;

use super::Session;
use crate::catalog::WHOLE_PREFIX;
use crate::change::StatementRows;
use crate::statement::Work;
use crate::table::StatementSnapshot;
use crate::{Result, latest, lean, memory, role};

/// States that are kept for use again.
const SPARE_MAX: usize = 16;

/// States that plan, for use again. They know hundreds of functions by name: a copy costs more than many a query.
#[derive(Default)]
pub(super) struct States(Mutex<Vec<SessionState>>);

impl States {
    /// A state that is as `first` is.
    fn take(&self, first: &SessionState) -> SessionState {
        let spare = self.0.lock().pop();
        spare.unwrap_or_else(|| first.clone())
    }

    fn give_back(&self, mut state: SessionState, first: &SessionState) {
        *state.config_mut() = first.config().clone();
        let mut spare = self.0.lock();
        if spare.len() < SPARE_MAX {
            spare.push(state);
        }
    }
}

impl Session {
    /// About how many rows a query has, by what is known without reading any: versions of one row are counted apart, and so are rows
    /// of parts that were deleted since. None where the query does more than show one table.
    ///
    /// # Errors
    /// As [`Session::prepare`].
    pub async fn rows_estimate(&self, sql: &str) -> Result<Option<u64>> {
        let Some(statement) = self.parse(sql)?.pop() else { return Ok(None) };
        let prepared = Box::pin(self.prepare(statement, &[])).await?;
        let Work::Query(_, plan, _) = &prepared.work else { return Ok(None) };
        role::permit_reading(&self.user, &tables_of(plan)?)?;
        let snapshot = self.shared.db.snapshot();
        Ok(shown(plan).and_then(|name| snapshot.table(name)).map(|table| table.rows_estimate()))
    }

    /// The rows of a plan as the session sees the database now.
    pub(super) async fn rows(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let view = self.view();
        self.rows_at(plan, view.whole, None).await
    }

    /// The rows of a plan over a snapshot; `own` are rows of the statement itself that the plan may read.
    pub(super) async fn rows_at(
        &self,
        plan: LogicalPlan,
        snapshot: Snapshot,
        own: Option<RecordBatch>,
    ) -> Result<SendableRecordBatchStream> {
        role::permit_reading(&self.user, &tables_of(&plan)?)?;
        let (shared, aggregates) = (&self.shared, self.settings.lock().aggregates());
        let plan = if aggregates { latest::rewritten(plan)? } else { plan };
        // Plans carry their tables: whose planner it is makes no difference any more.
        let (states, first) = match lean::fits(&plan) {
            true => (&shared.lean, &shared.planner.lean),
            false => (&shared.states, &shared.planner.state),
        };
        let mut state = states.take(first);
        let config = state.config_mut();
        config.set_extension(Arc::new(StatementSnapshot { snapshot, aggregates }));
        if let Some(own) = own {
            config.set_extension(Arc::new(StatementRows(own)));
        }
        state.mark_start_execution();
        let physical = state.create_physical_plan(&plan).await;
        let context = context(&state, memory::of_query(state.runtime_env(), shared.memory));
        states.give_back(state, first);
        Ok(execute_stream(physical?, Arc::new(context))?)
    }
}

/// What a plan runs in. Planned, it has its functions in hand and looks none up by name.
fn context(state: &SessionState, runtime: RuntimeEnv) -> TaskContext {
    let (id, config) = (state.session_id().to_owned(), state.config().clone());
    let (scalar, higher, aggregate, window) = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
    TaskContext::new(None, id, config, scalar, higher, aggregate, window, Arc::new(runtime))
}

/// The plan with its parameters' values in place.
pub(super) fn bound(plan: &LogicalPlan, values: &ParamValues) -> Result<LogicalPlan> {
    let none = match values {
        ParamValues::List(list) => list.is_empty(),
        ParamValues::Map(map) => map.is_empty(),
    };
    // Without values there is nothing to put in place, but the types of VALUES are settled so too.
    if none && !plan.exists(|node| Ok(matches!(node, LogicalPlan::Values(_))))? {
        return Ok(plan.clone());
    }
    Ok(plan.clone().replace_params_with_values(values)?)
}

/// The one table that a plan shows all rows of, whatever it makes of their columns.
fn shown(plan: &LogicalPlan) -> Option<&str> {
    match plan {
        LogicalPlan::Projection(projection) => shown(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => shown(&alias.input),
        LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
            Some(scan.table_name.table())
        }
        _ => None,
    }
}

/// The tables that a plan scans.
fn tables_of(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut tables = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table();
            tables.insert(name.strip_prefix(WHOLE_PREFIX).unwrap_or(name).to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}
