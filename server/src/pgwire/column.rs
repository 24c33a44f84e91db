//! What PostgreSQL calls an Arrow column: type OID, size, modifier; and which Arrow type a parameter's OID means.
//!
//! **Invariant:** no value is read or written here.

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, TimeUnit};
use juno_sql::{Error, Result, TYPE_KEY};
use pgwire::api::Type;
use pgwire::messages::data::{FieldDescription, RowDescription};

/// Digits kept after the point of a numeric parameter whose column is not known.
const NUMERIC_SCALE: i8 = 10;

/// How one value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    /// The format of item `index` under the codes of a Bind message: none = text, one = for all, else one each.
    pub(super) fn of(codes: &[i16], index: usize) -> Result<Format> {
        let code = match codes {
            [] => 0,
            [one] => *one,
            many => *many.get(index).ok_or_else(|| Error::InvalidParameter(too_few_formats(many.len())))?,
        };
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(Error::InvalidArgument(format!("unsupported format code: {other}"))),
        }
    }
}

fn too_few_formats(given: usize) -> String {
    format!("bind message has {given} format codes, give none, one, or one for each value")
}

/// A result column as the client is told of it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) field: FieldRef,
    pub(super) wire: WireType,
    pub(super) format: Format,
}

impl Column {
    /// The columns of a result whose values travel in these formats.
    pub(super) fn all(schema: &Schema, formats: &[i16]) -> Result<Vec<Column>> {
        if formats.len() > 1 && formats.len() != schema.fields().len() {
            let (given, wanted) = (formats.len(), schema.fields().len());
            let message = format!("bind message has {given} result formats but query has {wanted} columns");
            return Err(Error::InvalidParameter(message));
        }
        let column = |(index, field): (usize, &FieldRef)| {
            Ok(Column { field: field.clone(), wire: WireType::of(field)?, format: Format::of(formats, index)? })
        };
        schema.fields().iter().enumerate().map(column).collect()
    }
}

/// The RowDescription message for these columns.
pub(super) fn describe(columns: &[Column]) -> RowDescription {
    let field = |column: &Column| {
        let wire = &column.wire;
        let code = i16::from(column.format == Format::Binary);
        FieldDescription::new(column.field.name().clone(), 0, 0, wire.kind.oid(), wire.size(), wire.modifier, code)
    };
    RowDescription::new(columns.iter().map(field).collect())
}

/// A PostgreSQL type with its modifier (-1 where it has none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireType {
    pub(super) kind: Type,
    pub(super) modifier: i32,
}

impl WireType {
    /// The type that values of this field have on the wire. An error names what cannot be sent.
    pub(super) fn of(field: &Field) -> Result<WireType> {
        let plain = |kind: Type| Ok(WireType { kind, modifier: -1 });
        match field.metadata().get(TYPE_KEY).map(String::as_str) {
            Some("uuid") => return plain(Type::UUID),
            Some("jsonb") => return plain(Type::JSONB),
            Some("json") => return plain(Type::JSON),
            Some(name) if name.starts_with("varchar") => {
                let length = name.trim_start_matches("varchar").trim_matches(['(', ')']).parse::<i32>();
                let modifier = length.map_or(-1, |length| length.saturating_add(4));
                return Ok(WireType { kind: Type::VARCHAR, modifier });
            }
            _ => {}
        }
        match field.data_type() {
            DataType::Dictionary(_, values) => WireType::of(&Field::new("", (**values).clone(), true)),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                let modifier = ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4;
                Ok(WireType { kind: Type::NUMERIC, modifier })
            }
            // The only type that holds all of its values.
            DataType::UInt64 => plain(Type::NUMERIC),
            DataType::Null => plain(Type::TEXT),
            list if element(list).is_some() => plain(array_of(list)?),
            DataType::Struct(_) => plain(Type::RECORD),
            _ => match arrow_pg::datatypes::field_into_pg_type(&FieldRef::new(field.clone())) {
                Ok(kind) => plain(kind),
                Err(_) => Err(unsendable(field.data_type())),
            },
        }
    }

    /// The type's size in bytes as RowDescription states it, -1 where it varies.
    fn size(&self) -> i16 {
        match self.kind {
            Type::BOOL | Type::CHAR => 1,
            Type::INT2 => 2,
            Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
            Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::REGNAMESPACE | Type::REGROLE => 4,
            Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME => 8,
            Type::UUID | Type::INTERVAL => 16,
            _ => -1,
        }
    }
}

/// The error for an Arrow type that has no counterpart on the wire.
pub(super) fn unsendable(kind: &DataType) -> Error {
    Error::Unsupported(format!("values of type {kind} cannot be sent, cast them to text"))
}

/// The element of an Arrow list of any flavour (a map is a list of key and value records).
pub(super) fn element(list: &DataType) -> Option<&FieldRef> {
    match list {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _)
        | DataType::Map(element, _) => Some(element),
        _ => None,
    }
}

/// The array type of a list; lists in lists are PostgreSQL's several dimensions of the same array type.
fn array_of(list: &DataType) -> Result<Type> {
    let mut innermost = element(list).ok_or_else(|| unsendable(list))?;
    while let Some(next) = element(innermost.data_type()) {
        innermost = next;
    }
    Ok(match WireType::of(innermost)?.kind {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::VARCHAR => Type::VARCHAR_ARRAY,
        Type::CHAR => Type::CHAR_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::UUID => Type::UUID_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::JSONB => Type::JSONB_ARRAY,
        Type::RECORD => Type::RECORD_ARRAY,
        _ => return Err(unsendable(list)),
    })
}

/// The Arrow type that a client means by a parameter's OID; None where the statement itself should decide (no OID,
/// `unknown`, and `numeric`, whose scale only the statement knows).
pub(super) fn parameter_type(oid: u32) -> Option<DataType> {
    let list = |element: DataType| DataType::List(FieldRef::new(Field::new_list_field(element, true)));
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Some(match Type::from_oid(oid)? {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UUID | Type::JSON | Type::JSONB => {
            DataType::Utf8
        }
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => instant(),
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::BYTEA => DataType::Binary,
        Type::BOOL_ARRAY => list(DataType::Boolean),
        Type::INT2_ARRAY => list(DataType::Int16),
        Type::INT4_ARRAY => list(DataType::Int32),
        Type::INT8_ARRAY | Type::OID_ARRAY => list(DataType::Int64),
        Type::FLOAT4_ARRAY => list(DataType::Float32),
        Type::FLOAT8_ARRAY => list(DataType::Float64),
        Type::NUMERIC_ARRAY => list(DataType::Decimal128(38, NUMERIC_SCALE)),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::UUID_ARRAY => list(DataType::Utf8),
        Type::TIMESTAMPTZ_ARRAY => list(instant()),
        Type::TIMESTAMP_ARRAY => list(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Type::DATE_ARRAY => list(DataType::Date32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn tagged(kind: DataType, name: &str) -> Field {
        Field::new("c", kind, true).with_metadata(HashMap::from([(TYPE_KEY.to_owned(), name.to_owned())]))
    }

    fn oid_and_modifier(field: &Field) -> (u32, i32) {
        let wire = WireType::of(field).unwrap();
        (wire.kind.oid(), wire.modifier)
    }

    #[test]
    fn metadata_names_the_types_that_arrow_has_not() {
        assert_eq!(oid_and_modifier(&tagged(DataType::Utf8, "uuid")), (2950, -1));
        assert_eq!(oid_and_modifier(&tagged(DataType::Utf8View, "jsonb")), (3802, -1));
        assert_eq!(oid_and_modifier(&tagged(DataType::Utf8, "json")), (114, -1));
        assert_eq!(oid_and_modifier(&tagged(DataType::Utf8, "varchar(50)")), (1043, 54));
        assert_eq!(oid_and_modifier(&tagged(DataType::Utf8, "something else")), (25, -1));
    }

    #[test]
    fn a_decimal_carries_precision_and_scale_in_its_modifier() {
        let field = Field::new("c", DataType::Decimal128(5, 2), true);
        assert_eq!(oid_and_modifier(&field), (1700, ((5 << 16) | 2) + 4));
    }

    #[test]
    fn unsigned_integers_widen_and_dictionaries_are_their_values() {
        let oid = |kind: DataType| oid_and_modifier(&Field::new("c", kind, true)).0;
        assert_eq!([oid(DataType::UInt8), oid(DataType::UInt16), oid(DataType::UInt32)], [21, 23, 20]);
        assert_eq!(oid(DataType::UInt64), 1700);
        assert_eq!(oid(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))), 25);
        let inner = DataType::List(FieldRef::new(Field::new_list_field(DataType::Float64, true)));
        assert_eq!(oid(inner.clone()), 1022);
        assert_eq!(oid(DataType::List(FieldRef::new(Field::new_list_field(inner, true)))), 1022);
    }

    #[test]
    fn one_format_code_holds_for_all_and_a_short_list_is_refused() {
        assert_eq!(Format::of(&[], 3).unwrap(), Format::Text);
        assert_eq!(Format::of(&[1], 3).unwrap(), Format::Binary);
        assert_eq!(Format::of(&[0, 1], 1).unwrap(), Format::Binary);
        assert!(Format::of(&[0, 1], 2).is_err());
        assert!(Format::of(&[7], 0).is_err());
    }
}
