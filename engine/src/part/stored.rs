//! How a part holds numbers: doubles that are decimals as scaled integers, wide integers that are small as narrow ones.
//!
//! A double is a decimal of scale s where an integer u over 10^s, divided as doubles, gives its very bits. Then u is
//! stored, as Parquet's DECIMAL, and the division gives the double back. Neither NaN, nor infinity, nor -0 is a decimal. Where a column has one value
//! that is none, the whole part stores doubles. The field of a column that is stored so has the table's type as metadata.
//!
//! **Invariant:** what is read back has the bits that were written; that is checked at write, value by value.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal32Array, Decimal64Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Field, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use parquet::file::statistics::Statistics;

use super::Part;
use crate::schema::{type_name, type_named};
use crate::{Result, TableSchema};

/// The metadata of a field that holds the type of the table's column.
const TYPE: &str = "juno.type";
/// The powers of ten that doubles are tried with.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// The most that a scaled integer may be: every integer up to it is a double, and [`ROUND`] rounds to it.
const SCALED_MAX: u64 = 1_000_000_000_000_000;
/// The most of a decimal of 32 bits.
const SCALED_32_MAX: u64 = 999_999_999;
/// Added and taken away it rounds to the nearest integer, and in the sum's low bits is that integer.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Doubles that are tried at once.
const CHUNK: usize = 1024;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Doubles that are integers up to `most`, of either sign, over 10^`scale`.
    Decimals { scale: u8, most: u64 },
    /// Integers of 64 bits.
    Integers { min: i64, max: i64 },
    /// To be stored as they are.
    Any,
}

/// What the values of all columns of a part-to-be are; every row must be added before the part is begun.
#[derive(Debug)]
pub(crate) struct Profile {
    columns: SchemaRef,
    values: Vec<Values>,
}

impl Profile {
    /// Nothing seen yet of these columns of a table.
    pub(crate) fn new(table: &TableSchema, columns: &SchemaRef) -> Self {
        let in_key = |name: &str| table.column(name).is_some_and(|index| table.key.contains(&index));
        let empty = |field: &Arc<Field>| match field.data_type() {
            _ if in_key(field.name()) => Values::Any,
            DataType::Float64 => Values::Decimals { scale: 0, most: 0 },
            DataType::Int64 => Values::Integers { min: 0, max: 0 },
            _ => Values::Any,
        };
        Self { columns: Arc::clone(columns), values: columns.fields().iter().map(empty).collect() }
    }

    /// Takes in the rows of a batch.
    pub(crate) fn add(&mut self, rows: &RecordBatch) {
        for (field, values) in self.columns.fields().iter().zip(&mut self.values) {
            let Some(column) = rows.column_by_name(field.name()) else { continue };
            match values {
                Values::Decimals { .. } => values.add_doubles(column.as_primitive::<Float64Type>()),
                Values::Integers { min, max } => {
                    let column = column.as_primitive::<Int64Type>();
                    *min = arrow::compute::min(column).map_or(*min, |found| found.min(*min));
                    *max = arrow::compute::max(column).map_or(*max, |found| found.max(*max));
                }
                Values::Any => {}
            }
        }
    }

    /// Takes in the rows of a part, from its footer.
    pub(crate) fn add_part(&mut self, part: &Part) -> Result<()> {
        let footer = part.footer()?;
        for (field, values) in self.columns.fields().iter().zip(&mut self.values) {
            let Ok(index) = footer.schema().index_of(field.name()) else { continue };
            let stored = footer.schema().field(index).data_type();
            for group in footer.metadata().row_groups() {
                values.add_stored(stored, group.column(index).statistics());
            }
        }
        Ok(())
    }

    /// The columns as the table has them.
    pub(super) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// The columns as the part will hold them.
    pub(super) fn stored(&self) -> SchemaRef {
        let field = |(field, values): (&Arc<Field>, &Values)| match values.stored(field.data_type()) {
            None => Arc::clone(field),
            Some(stored) => {
                let name = type_name(field.data_type()).expect("a table's columns have types with names");
                let metadata = [(TYPE.to_owned(), name)].into();
                Arc::new(field.as_ref().clone().with_data_type(stored).with_metadata(metadata))
            }
        };
        Arc::new(Schema::new(self.columns.fields().iter().zip(&self.values).map(field).collect::<Vec<_>>()))
    }
}

impl Values {
    fn add_doubles(&mut self, doubles: &Float64Array) {
        let present: Cow<'_, [f64]> = match doubles.null_count() {
            0 => Cow::Borrowed(doubles.values()),
            _ => doubles.iter().map(|value| value.unwrap_or(0.0)).collect(),
        };
        for chunk in present.chunks(CHUNK) {
            let Self::Decimals { scale, most } = *self else { return };
            let found = (scale..).zip(&POWERS[scale.into()..]).find_map(|(s, &p)| Some((s, decimals(chunk, p)?)));
            *self = match found {
                Some((wider, found)) => decimals_of(wider, found.max(scaled(most, wider - scale))),
                None => Self::Any,
            };
        }
    }

    /// Takes in a column chunk of a part.
    fn add_stored(&mut self, stored: &DataType, statistics: Option<&Statistics>) {
        let range = match statistics {
            Some(Statistics::Int32(found)) => found.min_opt().zip(found.max_opt()).map(|(&a, &b)| (a.into(), b.into())),
            Some(Statistics::Int64(found)) => found.min_opt().zip(found.max_opt()).map(|(&a, &b)| (a, b)),
            _ => None,
        };
        let nothing = statistics.is_some_and(|found| range.is_none() && found.min_bytes_opt().is_none());
        *self = match (*self, stored, range) {
            (_, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Int32 | DataType::Int64, None)
                if nothing =>
            {
                *self
            }
            (
                Self::Decimals { scale, most },
                DataType::Decimal32(_, s) | DataType::Decimal64(_, s),
                Some((min, max)),
            ) => {
                let s = s.unsigned_abs();
                let wider = s.max(scale);
                let found = i64::unsigned_abs(min).max(i64::unsigned_abs(max));
                decimals_of(wider, scaled(most, wider - scale).max(scaled(found, wider - s)))
            }
            (Self::Integers { min, max }, DataType::Int32 | DataType::Int64, Some((low, high))) => {
                Self::Integers { min: min.min(low), max: max.max(high) }
            }
            _ => Self::Any,
        };
    }

    /// The type to store instead of the table's; none where it is that.
    fn stored(self, of_table: &DataType) -> Option<DataType> {
        let narrow = |value: i64| i32::try_from(value).is_ok();
        match self {
            Self::Decimals { scale, most } => {
                let scale = i8::try_from(scale).expect("a scale is small");
                let narrow = most <= SCALED_32_MAX;
                Some(if narrow { DataType::Decimal32(9, scale) } else { DataType::Decimal64(18, scale) })
            }
            Self::Integers { min, max } if *of_table == DataType::Int64 && narrow(min) && narrow(max) => {
                Some(DataType::Int32)
            }
            Self::Integers { .. } | Self::Any => None,
        }
    }
}

fn scaled(most: u64, by: u8) -> u64 {
    most.saturating_mul(10_u64.saturating_pow(by.into()))
}

fn decimals_of(scale: u8, most: u64) -> Values {
    if most <= SCALED_MAX { Values::Decimals { scale, most } } else { Values::Any }
}

/// The greatest scaled integer of doubles; none where one of them is no decimal of this scale.
fn decimals(doubles: &[f64], power: f64) -> Option<u64> {
    let (mut all, mut most) = (true, 0.0_f64);
    for &double in doubles {
        let scaled = (double * power + ROUND) - ROUND;
        all &= (scaled.abs() <= SCALED_MAX as f64) & ((scaled / power).to_bits() == double.to_bits());
        most = if scaled.abs() > most { scaled.abs() } else { most };
    }
    all.then_some(most as u64)
}

/// What other readers are told of these columns: wide decimals, since narrow ones overflow in the sums of some.
pub(super) fn told(stored: &Schema) -> SchemaRef {
    retyped(stored, |kind| match kind {
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            Some(DataType::Decimal128(*precision, *scale))
        }
        _ => None,
    })
}

/// What [`told`] was told of: how juno reads these columns, which costs it less.
pub(super) fn meant(told: &Schema) -> SchemaRef {
    retyped(told, |kind| match kind {
        DataType::Decimal128(9, scale) => Some(DataType::Decimal32(9, *scale)),
        DataType::Decimal128(18, scale) => Some(DataType::Decimal64(18, *scale)),
        _ => None,
    })
}

/// A schema with other types for some of the columns that are not stored as the table has them.
fn retyped(schema: &Schema, other: impl Fn(&DataType) -> Option<DataType>) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let kind = field.metadata().contains_key(TYPE).then(|| other(field.data_type())).flatten();
        kind.map_or_else(|| Arc::clone(field), |kind| Arc::new(field.as_ref().clone().with_data_type(kind)))
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

/// A batch with its columns as a part holds them.
pub(super) fn store(batch: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    let columns = stored.fields().iter().zip(batch.columns()).map(|(field, column)| match field.data_type() {
        kind if kind == column.data_type() => Ok(Arc::clone(column)),
        DataType::Decimal32(_, scale) => {
            let doubles = column.as_primitive::<Float64Type>();
            let power = checked(doubles, *scale, SCALED_32_MAX)?;
            let low = |double: f64| (double * power + ROUND).to_bits() as i32;
            let integers: Decimal32Array = doubles.unary(low);
            Ok(Arc::new(integers.with_data_type(field.data_type().clone())) as ArrayRef)
        }
        DataType::Decimal64(_, scale) => {
            let doubles = column.as_primitive::<Float64Type>();
            let power = checked(doubles, *scale, SCALED_MAX)?;
            let low = |double: f64| (double * power + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
            let integers: Decimal64Array = doubles.unary(low);
            Ok(Arc::new(integers.with_data_type(field.data_type().clone())) as ArrayRef)
        }
        kind => Ok(cast(column, kind)?),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new_with_options(Arc::clone(stored), columns, &options)?)
}

/// The power of ten of a scale, once all doubles are known to be decimals of it.
fn checked(doubles: &Float64Array, scale: i8, most: u64) -> Result<f64> {
    let scale = scale.unsigned_abs();
    let mut seen = Values::Decimals { scale, most: 0 };
    seen.add_doubles(doubles);
    match seen {
        Values::Decimals { scale: same, most: found } if same == scale && found <= most => {
            Ok(POWERS[usize::from(scale)])
        }
        _ => {
            Err(ArrowError::ComputeError(format!("doubles were to be stored with {scale} decimals, and have others")))?
        }
    }
}

/// A batch of a part with its columns as the table has them.
pub(super) fn restore(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| field.metadata().contains_key(TYPE)) {
        return Ok(batch);
    }
    let rows = batch.num_rows();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let Some(name) = field.metadata().get(TYPE) else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        };
        let unknown = || ArrowError::SchemaError(format!("column \"{}\" has the unknown type {name}", field.name()));
        let kind = type_named(name).ok_or_else(unknown)?;
        columns.push(match column.data_type() {
            DataType::Decimal32(_, scale) => divided(*scale, |power| match power {
                None => column.as_primitive::<Decimal32Type>().unary(f64::from),
                Some(power) => column.as_primitive::<Decimal32Type>().unary(|scaled| f64::from(scaled) / power),
            })?,
            DataType::Decimal64(_, scale) => divided(*scale, |power| {
                column.as_primitive::<Decimal64Type>().unary(|scaled| scaled as f64 / power.unwrap_or(1.0))
            })?,
            _ => cast(column, &kind)?,
        });
        fields.push(Arc::new(Field::new(field.name(), kind, field.is_nullable())));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// Doubles made with the power of ten of a scale; none stands for one.
fn divided(scale: i8, make: impl FnOnce(Option<f64>) -> Float64Array) -> Result<ArrayRef, ArrowError> {
    let power = usize::try_from(scale).ok().and_then(|scale| POWERS.get(scale));
    let power =
        power.ok_or_else(|| ArrowError::SchemaError(format!("doubles with {scale} decimals are not stored")))?;
    Ok(Arc::new(make(Some(*power).filter(|&power| power > 1.0))))
}

#[cfg(test)]
mod tests;
