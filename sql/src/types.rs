//! SQL's type names and what stands for them in Arrow.
//!
//! UUID, JSON, JSONB and VARCHAR(n) have no Arrow type that DataFusion computes with, so they are Utf8 whose field says
//! what it holds under [`TYPE_KEY`]: `uuid`, `json`, `jsonb`, `varchar(20)`. The wire reads that key, nothing else does.
//!
//! **Invariant:** no values here, only types; `column` checks values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{CharacterLength, DataType as SqlType, ExactNumberInfo, TimezoneInfo};

use crate::{Error, Result};

/// The field metadata key that names a SQL type where Arrow's type does not.
pub const TYPE_KEY: &str = "juno.type";
/// The column metadata key that holds a DEFAULT expression as SQL.
pub(crate) const DEFAULT_KEY: &str = "juno.default";
/// Columns whose names start so are juno's own and are not shown.
pub(crate) const HIDDEN_PREFIX: &str = "_juno_";
/// The most digits a DECIMAL may have: what 128 bits hold.
const DECIMAL_PRECISION_MAX: u64 = 38;

/// A column's type: Arrow's, and the SQL name where that says more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnType {
    pub(crate) arrow: DataType,
    pub(crate) name: Option<String>,
}

impl ColumnType {
    fn plain(arrow: DataType) -> Self {
        ColumnType { arrow, name: None }
    }

    fn named(name: impl Into<String>) -> Self {
        ColumnType { arrow: DataType::Utf8, name: Some(name.into()) }
    }

    /// Column metadata that keeps the SQL name.
    pub(crate) fn metadata(&self) -> BTreeMap<String, String> {
        self.name.iter().map(|name| (TYPE_KEY.to_owned(), name.clone())).collect()
    }
}

/// `TIMESTAMPTZ` as juno stores it: microseconds, UTC.
pub(crate) fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// A tag: dictionary-encoded text.
pub(crate) fn tag() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The limit of a `varchar(n)` field.
pub(crate) fn varchar_limit(name: &str) -> Option<usize> {
    name.strip_prefix("varchar(")?.strip_suffix(')')?.parse().ok()
}

/// What a column declared with this SQL type stores.
pub(crate) fn column_type(sql: &SqlType) -> Result<ColumnType> {
    let micros = |zone: bool| {
        if zone { timestamptz() } else { DataType::Timestamp(TimeUnit::Microsecond, None) }
    };
    Ok(match sql {
        SqlType::Boolean | SqlType::Bool => ColumnType::plain(DataType::Boolean),
        SqlType::SmallInt(_) | SqlType::Int2(_) => ColumnType::plain(DataType::Int16),
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => ColumnType::plain(DataType::Int32),
        SqlType::BigInt(_) | SqlType::Int8(_) => ColumnType::plain(DataType::Int64),
        SqlType::BigIntUnsigned(_) => ColumnType::plain(DataType::UInt64),
        SqlType::Real | SqlType::Float4 => ColumnType::plain(DataType::Float32),
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 | SqlType::Float(_) => {
            ColumnType::plain(DataType::Float64)
        }
        SqlType::Text | SqlType::String(None) => ColumnType::plain(DataType::Utf8),
        SqlType::Varchar(length) | SqlType::CharacterVarying(length) | SqlType::CharVarying(length) => varchar(length)?,
        SqlType::Char(length) | SqlType::Character(length) => match varchar(length)? {
            ColumnType { name: None, .. } => ColumnType::named("varchar(1)"),
            limited => limited,
        },
        SqlType::Numeric(info) | SqlType::Decimal(info) | SqlType::Dec(info) => decimal(info)?,
        SqlType::Timestamp(_, zone) => {
            ColumnType::plain(micros(matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone)))
        }
        SqlType::Date => ColumnType::plain(DataType::Date32),
        SqlType::Bytea => ColumnType::plain(DataType::Binary),
        SqlType::Uuid => ColumnType::named("uuid"),
        SqlType::JSON => ColumnType::named("json"),
        SqlType::JSONB => ColumnType::named("jsonb"),
        other => {
            return Err(Error::UndefinedType(format!("type \"{other}\" does not exist in juno; columns take {KNOWN}")));
        }
    })
}

/// The type in which a column keeps computed values; none where no column does.
pub(crate) fn stored(computed: &DataType) -> Option<DataType> {
    Some(match computed {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Binary => computed.clone(),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => timestamptz(),
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => stored(values)?,
        _ => return None,
    })
}

const KNOWN: &str = "BOOLEAN, SMALLINT, INTEGER, BIGINT, REAL, DOUBLE PRECISION, DECIMAL(p,s), TEXT, VARCHAR(n), UUID, \
                     JSON, JSONB, BYTEA, DATE, TIMESTAMP and TIMESTAMPTZ";

fn varchar(length: &Option<CharacterLength>) -> Result<ColumnType> {
    match length {
        Some(CharacterLength::IntegerLength { length: 0, .. }) => {
            Err(Error::InvalidDefinition("length for type varchar must be at least 1".into()))
        }
        Some(CharacterLength::IntegerLength { length, .. }) => Ok(ColumnType::named(format!("varchar({length})"))),
        _ => Ok(ColumnType::plain(DataType::Utf8)),
    }
}

fn decimal(info: &ExactNumberInfo) -> Result<ColumnType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (DECIMAL_PRECISION_MAX, 10),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let fits = (1..=DECIMAL_PRECISION_MAX).contains(&precision) && (0..=precision as i64).contains(&scale);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if fits => Ok(ColumnType::plain(DataType::Decimal128(precision, scale))),
        _ => Err(Error::InvalidDefinition(format!(
            "DECIMAL({precision},{scale}) must have 1 to {DECIMAL_PRECISION_MAX} digits and a scale of 0 to its precision"
        ))),
    }
}

/// Teaches DataFusion's planner the type names that it refuses, in front of the planner that was there.
#[derive(Debug)]
pub(crate) struct SqlTypes {
    pub(crate) next: Option<Arc<dyn TypePlanner>>,
}

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql: &SqlType) -> DataFusionResult<Option<FieldRef>> {
        // Free of metadata on purpose: DataFusion 55 resolves a cast's field differently in its logical and physical plans.
        let plain = |arrow| Ok(Some(Arc::new(Field::new("", arrow, true))));
        match sql {
            SqlType::Uuid | SqlType::JSON | SqlType::JSONB => plain(DataType::Utf8),
            SqlType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => plain(timestamptz()),
            SqlType::Timestamp(None, _) => plain(DataType::Timestamp(TimeUnit::Microsecond, None)),
            other => match &self.next {
                Some(next) => next.plan_type_field(other),
                None => Ok(None),
            },
        }
    }
}
