//! Aggregates over whole blocks of time are answered from the block aggregates of parts; only the rest is read as rows.
//!
//! Met are aggregates by tags and by buckets of time (`time_bucket`, `date_bin`, `date_trunc`), or by neither, of `count`,
//! `sum`, `avg`, `min`, `max`, `first` and `last` over fields, under filters on tags and the time. Of the widths that parts
//! have blocks of, those of rollups among them, the widest is taken that lies in one bucket, and narrower ones where a bound
//! or a row elsewhere cuts it. Blocks give partial states as the first phase of the aggregate would; the phase itself stays
//! for the times that no block speaks for, and the last phase puts both together.
//!
//! **Invariant:** every row counts once: in a block, or in the rows of a time that no block that was taken speaks for.

mod bucket;
mod node;
mod state;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::union::UnionExec;
use juno_engine::{BlockSpan, Blocks, ScanRequest, TableSnapshot, TimeRange};

use self::bucket::Bucket;
use self::node::BlockScan;
pub(crate) use self::node::length;
use self::state::State;
use crate::scan::{Origin, Scan};
use crate::source::{Selection, Source, over, with_leaf};
use crate::{Error, runs};

/// The most times that are read as rows beside blocks.
const PIECES_MAX: usize = 16;

/// Puts blocks in the place of rows. Runs before DataFusion's own rules, while plans still have their plain form.
#[derive(Debug)]
pub(crate) struct Aggregates;

impl PhysicalOptimizerRule for Aggregates {
    fn name(&self) -> &str {
        "juno_aggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, options: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = options.execution.target_partitions;
        let swap = |node: Arc<dyn ExecutionPlan>| match of_blocks(&node, partitions)? {
            Some(swapped) => Ok(Transformed::yes(swapped)),
            None => Ok(Transformed::no(node)),
        };
        plan.transform_down(swap).map(|done| done.data)
    }
}

/// A whole aggregate, with blocks in the place of what rows they can stand for.
fn of_blocks(node: &Arc<dyn ExecutionPlan>, partitions: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some((first, last)) = phases(node)? else { return Ok(None) };
    let Some(source) = Source::of(first.input()) else { return Ok(None) };
    if !source.scan.origin().aggregates {
        return Ok(None);
    }
    let Some(question) = Question::of(&first, &source)? else { return Ok(None) };
    let table = &source.scan.origin().table;
    let (spans, rest) = question.spans(table)?;
    if spans.iter().all(|span| span.rows == 0) || !worth_it(&spans, &source) {
        return Ok(None);
    }
    let rows = rows(&first, &source, rest, partitions)?;
    let blocks = Arc::new(BlockScan::new(source.scan, &first.schema(), question, &spans)) as Arc<dyn ExecutionPlan>;
    let states = match rows {
        None => blocks,
        Some(rows) => {
            let rows = match runs::first_phase(&first, &rows) {
                Some(states) => states,
                None => over(Arc::new(first.clone()), vec![rows])?,
            };
            UnionExec::try_new(vec![blocks, rows])?
        }
    };
    match runs::last_phase(&first, &last, &states) {
        Some(whole) => Ok(Some(whole)),
        None => over(last, vec![states]).map(Some),
    }
}

/// The two phases of an aggregate.
fn phases(node: &Arc<dyn ExecutionPlan>) -> Result<Option<(AggregateExec, Arc<dyn ExecutionPlan>)>> {
    let Some(last) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    match last.mode() {
        AggregateMode::Final | AggregateMode::FinalPartitioned => {
            let first = last.input().downcast_ref::<AggregateExec>();
            let first = first.filter(|first| *first.mode() == AggregateMode::Partial).cloned();
            Ok(first.map(|first| (first, Arc::clone(node))))
        }
        AggregateMode::Single => {
            let (functions, filters) = (last.aggr_expr().to_vec(), last.filter_expr().to_vec());
            let first = AggregateExec::try_new(
                AggregateMode::Partial,
                last.group_expr().clone(),
                functions.clone(),
                filters.clone(),
                Arc::clone(last.input()),
                last.input_schema(),
            )?;
            let second = AggregateExec::try_new(
                AggregateMode::Final,
                last.group_expr().as_final(),
                functions,
                filters,
                Arc::new(first.clone()),
                last.input_schema(),
            )?;
            Ok(Some((first, Arc::new(second))))
        }
        _ => Ok(None),
    }
}

/// What an aggregate asks of its rows, in terms of the scan's columns.
pub(crate) struct Question {
    selection: Selection,
    groups: Vec<Group>,
    states: Vec<State>,
}

/// What rows are grouped by.
enum Group {
    /// An expression that has one value for all rows of a series.
    Series(Arc<dyn PhysicalExpr>),
    Bucket(Bucket),
}

impl Question {
    /// What a first phase asks; none where blocks know no answer.
    fn of(first: &AggregateExec, source: &Source<'_>) -> Result<Option<Self>> {
        let Some(selection) = source.selection() else { return Ok(None) };
        let single = first.group_expr().is_single() || first.group_expr().is_empty();
        if !single || first.aggr_expr().is_empty() || first.filter_expr().iter().any(Option::is_some) {
            return Ok(None);
        }
        let mut groups = Vec::new();
        for (expr, _) in first.group_expr().expr() {
            let expr = source.substituted(expr)?;
            groups.push(match source.is_of_series(&expr) {
                true => Group::Series(expr),
                false => match Bucket::of(&expr, source) {
                    Some(bucket) => Group::Bucket(bucket),
                    None => return Ok(None),
                },
            });
        }
        let mut states = Vec::new();
        for function in first.aggr_expr() {
            match State::of(function, source)? {
                Some(state) => states.push(state),
                None => return Ok(None),
            }
        }
        Ok(Some(Question { selection, groups, states }))
    }

    /// The spans that are taken from blocks, of the widest that fit where several do, and the times that are left to rows.
    fn spans(&self, table: &TableSnapshot) -> Result<(Vec<BlockSpan>, Vec<TimeRange>)> {
        let (mut taken, mut left): (Vec<BlockSpan>, _) = (Vec::new(), vec![self.selection.time]);
        for width_us in table.block_widths(self.selection.time).map_err(Error::from)? {
            let spans = table.block_spans(&left, width_us, |blocks| self.known(blocks)).map_err(Error::from)?;
            taken.extend(self.within_buckets(spans)?);
            taken.sort_by_key(|span| span.time.from);
            left = rest(&taken, self.selection.time);
            if left.is_empty() {
                break;
            }
        }
        Ok(few(taken, left))
    }

    /// The spans that lie in one bucket each.
    fn within_buckets(&self, mut spans: Vec<BlockSpan>) -> Result<Vec<BlockSpan>> {
        for group in &self.groups {
            if let Group::Bucket(bucket) = group {
                let mut within = bucket.holds(&spans)?.into_iter();
                spans.retain(|span| within.next() == Some(true) || span.rows == 0);
            }
        }
        Ok(spans)
    }

    fn known(&self, blocks: &Blocks) -> bool {
        self.states.iter().all(|state| state.known(blocks))
    }
}

/// The times of a range that no span speaks for, in order.
fn rest(spans: &[BlockSpan], range: TimeRange) -> Vec<TimeRange> {
    let (mut rest, mut from) = (Vec::new(), range.from);
    for span in spans {
        if span.time.from > from {
            rest.push(TimeRange { from, to: span.time.from });
        }
        from = from.max(span.time.to);
    }
    if from < range.to {
        rest.push(TimeRange { from, to: range.to });
    }
    rest
}

/// The same with so few times left to rows that each can be read on its own: where there are more, spans with few rows
/// between them are left to rows too.
fn few(spans: Vec<BlockSpan>, rest: Vec<TimeRange>) -> (Vec<BlockSpan>, Vec<TimeRange>) {
    if rest.len() <= PIECES_MAX {
        return (spans, rest);
    }
    let between = |pair: &[TimeRange]| -> u64 {
        let inside = spans.iter().skip_while(|span| span.time.from < pair[0].to);
        inside.take_while(|span| span.time.from < pair[1].from).map(|span| span.rows).sum()
    };
    let mut gaps: Vec<(u64, usize)> = rest.windows(2).map(between).zip(1..).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(PIECES_MAX - 1);
    let mut firsts: Vec<usize> = gaps.into_iter().map(|(_, first)| first).collect();
    firsts.extend([0, rest.len()]);
    firsts.sort_unstable();
    let joined = |pair: &[usize]| TimeRange { from: rest[pair[0]].from, to: rest[pair[1] - 1].to };
    let rest: Vec<TimeRange> = firsts.windows(2).map(joined).collect();
    let apart = |span: &BlockSpan| {
        let at = rest.partition_point(|range| range.from <= span.time.from);
        at == 0 || rest[at - 1].to <= span.time.from
    };
    (spans.into_iter().filter(apart).collect(), rest)
}

/// Whether blocks stand for half of the rows that would be read.
fn worth_it(spans: &[BlockSpan], source: &Source<'_>) -> bool {
    let of_blocks: u64 = spans.iter().map(|span| span.rows).sum();
    of_blocks.saturating_mul(2) >= source.scan.rows()
}

/// What the first phase reads beside the blocks; none where that is nothing.
fn rows(
    first: &AggregateExec,
    source: &Source<'_>,
    rest: Vec<TimeRange>,
    partitions: usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let origin = source.scan.origin();
    let mut scans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
    for time in rest {
        let request = ScanRequest { time, ..origin.request.clone() };
        let slices = origin.table.scan(&request).map_err(Error::from)?;
        if slices.is_empty() {
            continue;
        }
        let origin = Origin { request, ..origin.clone() };
        let name = source.scan.name_of_table().to_owned();
        let scan = Scan::new(name, origin, source.scan.schema(), slices, partitions);
        scans.push(Arc::new(scan));
    }
    match scans.is_empty() {
        true => Ok(None),
        false => Ok(Some(with_leaf(first.input(), UnionExec::try_new(scans)?)?)),
    }
}

#[cfg(test)]
mod tests;
