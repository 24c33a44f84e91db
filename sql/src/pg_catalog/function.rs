//! The functions of PostgreSQL's catalog that look at the relations of the database.
//!
//! **Invariant:** what does not exist is null, as in PostgreSQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_nested::string::array_to_string_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::relation::{Kind, Relation, Relations};
use super::routine;
use super::table::{index_definition, key_columns};
use crate::catalog::PublicSchema;
use crate::functions::quoted;

/// All of them. Stable.
pub(crate) fn functions(public: &Arc<PublicSchema>) -> Vec<ScalarUDF> {
    let asks = [
        ("pg_get_constraintdef", Asks::Constraint),
        ("pg_get_column_default", Asks::Default),
        ("pg_get_expr", Asks::Expression),
        ("pg_get_indexdef", Asks::Index),
        ("pg_get_viewdef", Asks::View),
        ("to_regclass", Asks::Number),
        ("to_regtype", Asks::TypeNumber),
        ("array_to_string", Asks::Joined),
        ("pg_database_size", Asks::DatabaseSize),
        ("pg_get_function_arguments", Asks::Arguments),
        ("pg_get_function_identity_arguments", Asks::Arguments),
        ("pg_get_function_result", Asks::Returns),
        ("pg_indexes_size", Asks::Nothing),
        ("pg_relation_size", Asks::RelationSize),
        ("pg_table_size", Asks::RelationSize),
        ("pg_tablespace_size", Asks::DatabaseSize),
        ("pg_total_relation_size", Asks::RelationSize),
        ("pg_size_pretty", Asks::Pretty),
    ];
    let make = |(name, asks): (&'static str, Asks)| {
        let relations = Relations { public: Arc::clone(public) };
        let signature = Signature::variadic_any(Volatility::Stable);
        // Under all names of the library's, which comes back under any that is left to it.
        let aliases = if asks == Asks::Joined { array_to_string_udf().aliases().to_vec() } else { Vec::new() };
        ScalarUDF::new_from_impl(Function { name, asks, relations, signature, aliases })
    };
    asks.into_iter().map(make).collect()
}

/// What a function is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asks {
    /// The definition of a constraint by its number.
    Constraint,
    /// The default of a column by the number of its table and its place; PostgreSQL has no such function.
    Default,
    /// An expression, which the catalog keeps as SQL.
    Expression,
    /// The definition of an index by its number, or one of its columns.
    Index,
    /// The definition of a view by its number or name.
    View,
    /// The number of a relation by its name.
    Number,
    /// The number of a type by its name.
    TypeNumber,
    /// A list as one text; what is no list is a text already.
    Joined,
    /// The arguments of a function by its number.
    Arguments,
    /// What a function gives by its number.
    Returns,
    /// No bytes: keys are kept with their rows.
    Nothing,
    /// The bytes of a relation by its number or name.
    RelationSize,
    /// The bytes of the database.
    DatabaseSize,
    /// A number of bytes for people.
    Pretty,
}

#[derive(Debug)]
struct Function {
    name: &'static str,
    asks: Asks,
    relations: Relations,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.asks {
            Asks::Number | Asks::TypeNumber => DataType::Int32,
            Asks::DatabaseSize | Asks::RelationSize | Asks::Nothing => DataType::Int64,
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.asks == Asks::Joined
            && args
                .arg_fields
                .first()
                .is_some_and(|field| !matches!(field.data_type(), DataType::Utf8 | DataType::Null))
        {
            return array_to_string_udf().invoke_with_args(args);
        }
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let first = &arrays[0];
        let answers: ArrayRef = match self.asks {
            Asks::Number => {
                let names = cast(first, &DataType::Utf8)?;
                let number = |name: Option<&str>| self.relations.by_name(name?).map(|relation| relation.oid);
                Arc::new(names.as_string::<i32>().iter().map(number).collect::<Int32Array>())
            }
            Asks::DatabaseSize => {
                let status = self.relations.db().status();
                let bytes = i64::try_from(status.part_bytes + status.log_bytes).ok();
                Arc::new(Int64Array::from(vec![bytes; first.len()]))
            }
            Asks::TypeNumber => {
                let names = cast(first, &DataType::Utf8)?;
                Arc::new(names.as_string::<i32>().iter().map(|name| type_number(name?)).collect::<Int32Array>())
            }
            Asks::Nothing => Arc::new(Int64Array::from(vec![0; first.len()])),
            Asks::RelationSize => {
                let (all, snapshot) = (self.relations.all(), self.relations.db().snapshot());
                let size = |row| self.relation_size(&all, &snapshot, first, row);
                Arc::new((0..first.len()).map(size).collect::<Result<Int64Array>>()?)
            }
            Asks::Arguments | Asks::Returns => {
                let numbers = cast(first, &DataType::Int64)?;
                let told = |number: Option<i64>| {
                    let routine = routine::by_oid(number?)?;
                    Some(if self.asks == Asks::Arguments { routine.arguments } else { routine.returns })
                };
                Arc::new(numbers.as_primitive::<Int64Type>().iter().map(told).collect::<StringArray>())
            }
            Asks::Expression | Asks::Joined => cast(first, &DataType::Utf8)?,
            Asks::Pretty => {
                let bytes = cast(first, &DataType::Int64)?;
                let shown = bytes.as_primitive::<Int64Type>().iter().map(|bytes| bytes.map(pretty));
                Arc::new(shown.collect::<StringArray>())
            }
            Asks::Constraint | Asks::Default | Asks::Index | Asks::View => {
                let placed = matches!(self.asks, Asks::Default | Asks::Index);
                let place = match arrays.get(1).filter(|_| placed) {
                    Some(places) => Some(cast(places, &DataType::Int64)?),
                    None => None,
                };
                let place =
                    |row: usize| place.as_ref().map_or(0, |places| places.as_primitive::<Int64Type>().value(row));
                let all = self.relations.all();
                let answers = (0..first.len()).map(|row| self.defined(&all, first, row, place(row)));
                Arc::new(answers.collect::<Result<StringArray>>()?)
            }
        };
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar && answers.len() == 1 {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?)
        } else {
            ColumnarValue::Array(answers)
        })
    }
}

impl Function {
    /// The bytes of the relation that a number, or a name, at a row stands for.
    fn relation_size(
        &self,
        all: &[Relation],
        snapshot: &juno_engine::Snapshot,
        asked: &ArrayRef,
        row: usize,
    ) -> Result<Option<i64>> {
        if asked.is_null(row) {
            return Ok(None);
        }
        let found = if asked.data_type().is_integer() {
            let number = cast(asked, &DataType::Int64)?.as_primitive::<Int64Type>().value(row);
            all.iter().find(|relation| i64::from(relation.oid) == number).cloned()
        } else {
            self.relations.by_name(cast(asked, &DataType::Utf8)?.as_string::<i32>().value(row))
        };
        let Some(relation) = found else { return Ok(None) };
        let table = snapshot.table(&relation.name).filter(|_| relation.kind == Kind::Table);
        Ok(Some(table.map_or(0, |table| i64::try_from(table.bytes()).unwrap_or(i64::MAX))))
    }

    /// The definition of what a number, or a name, at a row stands for.
    fn defined(&self, all: &[Relation], asked: &ArrayRef, row: usize, place: i64) -> Result<Option<String>> {
        if asked.is_null(row) {
            return Ok(None);
        }
        if !asked.data_type().is_integer() {
            let names = cast(asked, &DataType::Utf8)?;
            let relation = self.relations.by_name(names.as_string::<i32>().value(row));
            return Ok(relation.and_then(|relation| relation.definition));
        }
        let number = cast(asked, &DataType::Int64)?.as_primitive::<Int64Type>().value(row);
        let is_asked = |relation: &&Relation| match self.asks {
            Asks::Constraint => {
                relation.kind == Kind::Index && i64::from(super::relation::oid("constraint", &relation.name)) == number
            }
            _ => i64::from(relation.oid) == number,
        };
        let Some(relation) = all.iter().find(is_asked) else { return Ok(None) };
        Ok(match (self.asks, relation.table.as_deref(), relation.kind) {
            (Asks::View, _, _) => relation.definition.clone(),
            (Asks::Default, ..) => {
                let place = usize::try_from(place - 1).ok();
                place.and_then(|place| self.relations.columns(relation).into_iter().nth(place)?.default)
            }
            (Asks::Constraint, Some(table), _) => Some(format!("PRIMARY KEY ({})", key_columns(table))),
            (Asks::Index, Some(_), Kind::Index) if place == 0 => Some(index_definition(relation)),
            (Asks::Index, Some(table), Kind::Index) => usize::try_from(place - 1)
                .ok()
                .and_then(|place| table.key.get(place))
                .map(|index| quoted(&table.columns[*index].name)),
            _ => None,
        })
    }
}

/// PostgreSQL's own number for a type; none for a type that juno has not.
fn type_number(name: &str) -> Option<i32> {
    let name = name.trim().to_lowercase();
    Some(match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
        "bool" | "boolean" => 16,
        "bytea" => 17,
        "name" => 19,
        "int8" | "bigint" => 20,
        "int2" | "smallint" => 21,
        "int4" | "int" | "integer" => 23,
        "text" => 25,
        "oid" => 26,
        "json" => 114,
        "float4" | "real" => 700,
        "float8" | "double precision" => 701,
        "varchar" | "character varying" => 1043,
        "date" => 1082,
        "time" | "time without time zone" => 1083,
        "timestamp" | "timestamp without time zone" => 1114,
        "timestamptz" | "timestamp with time zone" => 1184,
        "interval" => 1186,
        "numeric" | "decimal" => 1700,
        "uuid" => 2950,
        "jsonb" => 3802,
        _ => return None,
    })
}

/// `12 MB`, in the largest unit that leaves the number below 10240, as PostgreSQL shows sizes.
fn pretty(bytes: i64) -> String {
    let (mut size, mut unit) = (bytes, 0);
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    if size.abs() < 10_240 {
        return format!("{size} bytes");
    }
    // From here on in halves, so that the last step rounds.
    size >>= 9;
    unit += 1;
    while size.abs() >= 2 * 10_240 - 1 && unit + 1 < units.len() {
        size >>= 10;
        unit += 1;
    }
    let rounded = if size < 0 { (size - 1) / 2 } else { (size + 1) / 2 };
    format!("{rounded} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn sizes_are_shown_as_postgresql_shows_them() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (123_456_789, "118 MB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (1_i64 << 40, "1024 GB"),
            (-123_456, "-121 kB"),
        ] {
            assert_eq!(pretty(bytes), shown, "{bytes}");
        }
    }
}
