//! Partial states of aggregate functions from the measures of blocks.
//!
//! **Invariant:** a state is what DataFusion's own accumulators would give after the rows of the block: same columns, same
//! types; sums may differ in their last bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use juno_engine::{Blocks, Measure, Selected};

use crate::Error;
use crate::source::Source;

/// Where the state of one function comes from.
pub(super) enum State {
    /// `count(*)`.
    Rows,
    /// `min(time)` or `max(time)`.
    Time { last: bool },
    /// One measure of a column.
    One(Field, Measure),
    /// `avg`: a count and a sum.
    Average(Field),
    /// `first` or `last`: a value and its time.
    Edge(Field, Measure),
}

/// A column that is neither tag nor time.
pub(super) struct Field {
    name: String,
    data_type: DataType,
}

impl State {
    /// The state of a function; none where blocks do not have it.
    pub(super) fn of(function: &AggregateFunctionExpr, source: &Source<'_>) -> Result<Option<Self>> {
        if function.is_distinct() || function.ignore_nulls() || !function.order_bys().is_empty() {
            return Ok(None);
        }
        let arguments = function.expressions();
        let arguments = arguments.iter().map(|expr| source.substituted(expr)).collect::<Result<Vec<_>>>()?;
        let name = function.fun().name();
        Ok(match (name, arguments.as_slice()) {
            ("count", [one]) if one.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null()) => {
                Some(State::Rows)
            }
            ("count", [one]) if source.is_time(one) => Some(State::Rows),
            ("min" | "max", [one]) if source.is_time(one) => Some(State::Time { last: name == "max" }),
            ("first" | "last", [value, time]) if source.is_time(time) => {
                let measure = if name == "first" { Measure::First } else { Measure::Last };
                Field::of(value, source).map(|field| State::Edge(field, measure))
            }
            ("count", [one]) => Field::of(one, source).map(|field| State::One(field, Measure::Count)),
            ("min", [one]) => Field::of(one, source).map(|field| State::One(field, Measure::Min)),
            ("max", [one]) => Field::of(one, source).map(|field| State::One(field, Measure::Max)),
            ("sum", [one]) => Field::added(one, source).map(|field| State::One(field, Measure::Sum)),
            ("avg", [one]) => Field::added(one, source).map(State::Average),
            _ => None,
        })
    }

    /// How many columns it has.
    pub(super) fn width(&self) -> usize {
        match self {
            State::Rows | State::Time { .. } | State::One(..) => 1,
            State::Average(_) => 2,
            State::Edge(..) => 3,
        }
    }

    /// Whether a part's blocks have it.
    pub(super) fn known(&self, blocks: &Blocks) -> bool {
        match self {
            State::Rows | State::Time { .. } => true,
            State::One(field, measure) | State::Edge(field, measure) => blocks.knows(&field.name, *measure),
            State::Average(field) => blocks.knows(&field.name, Measure::Sum),
        }
    }

    /// The columns of the state, a row per block, of these types; none where blocks do not have it.
    pub(super) fn columns(&self, blocks: &Selected<'_>, types: &[&DataType]) -> Result<Option<Vec<ArrayRef>>> {
        let times = |last: bool| -> Result<ArrayRef> {
            let times = if last { blocks.last_times() } else { blocks.first_times() };
            Ok(Arc::new(times.map_err(Error::from)?.reinterpret_cast::<TimestampMicrosecondType>()))
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(types.len());
        match self {
            State::Rows => columns.push(Arc::new(blocks.rows().map_err(Error::from)?)),
            State::Time { last } => columns.push(times(*last)?),
            State::One(field, measure) => columns.extend(field.measure(blocks, *measure)?),
            State::Average(field) => {
                columns.extend(field.measure(blocks, Measure::Count)?);
                columns.extend(field.measure(blocks, Measure::Sum)?);
            }
            State::Edge(field, measure) => {
                columns.extend(field.measure(blocks, *measure)?);
                columns.push(times(*measure == Measure::Last)?);
                columns.push(Arc::new(BooleanArray::from(vec![true; blocks.len()])));
            }
        }
        if columns.len() != types.len() {
            return Ok(None);
        }
        Ok(Some(columns.iter().zip(types).map(|(column, wanted)| typed(column, wanted)).collect::<Result<_>>()?))
    }
}

fn typed(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match (column.data_type(), wanted) {
        (given, wanted) if given == wanted => Ok(Arc::clone(column)),
        (DataType::Timestamp(..), DataType::Timestamp(..)) => {
            let times = arrow::array::AsArray::as_primitive::<TimestampMicrosecondType>(column);
            Ok(Arc::new(times.clone().with_data_type(wanted.clone())))
        }
        _ => Ok(cast(column, wanted)?),
    }
}

impl Field {
    /// The field that an expression is.
    fn of(expr: &Arc<dyn PhysicalExpr>, source: &Source<'_>) -> Option<Self> {
        let (index, table) = (source.column_of(expr)?, source.table());
        let column = &table.columns[index];
        let field = !table.key.contains(&index);
        field.then(|| Field { name: column.name.clone(), data_type: column.data_type.clone() })
    }

    /// The field that is added up: itself, or an integer as a double.
    fn added(expr: &Arc<dyn PhysicalExpr>, source: &Source<'_>) -> Option<Self> {
        let wider = [DataType::Float64, DataType::Int64];
        match expr.downcast_ref::<CastExpr>() {
            Some(cast) if wider.contains(cast.cast_type()) => {
                Field::of(cast.expr(), source).filter(|field| field.data_type.is_signed_integer())
            }
            Some(_) => None,
            None => Field::of(expr, source),
        }
    }

    fn measure(&self, blocks: &Selected<'_>, measure: Measure) -> Result<Option<ArrayRef>> {
        Ok(blocks.measure(&self.name, &self.data_type, measure).map_err(Error::from)?)
    }
}
