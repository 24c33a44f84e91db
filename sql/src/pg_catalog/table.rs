//! The catalog tables that follow from juno's own relations, row by row.
//!
//! **Invariant:** a column that is not given here is null, or zero, false or empty where it may not be.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::relation::{Kind, Relation, Relations, key_name, oid, primary_key};
use crate::catalog::{DATABASE, SCHEMA};
use crate::functions::quoted;
use crate::setting;

/// The user that everything belongs to, as PostgreSQL numbers it.
const OWNER: i32 = 10;

/// The access method of indexes, as PostgreSQL numbers it.
const BTREE: i32 = 403;

/// One row: values by column.
pub(super) type Row = HashMap<&'static str, ScalarValue>;

fn row<const N: usize>(values: [(&'static str, ScalarValue); N]) -> Row {
    HashMap::from(values)
}

fn text(text: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(text.into()))
}

fn optional(text: Option<String>) -> ScalarValue {
    ScalarValue::Utf8(text)
}

fn numbers(numbers: &[i16]) -> ScalarValue {
    let numbers: Vec<_> = numbers.iter().map(|number| ScalarValue::from(*number)).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int16))
}

/// A class of operators that PostgreSQL has, for columns of an index.
const INT4_OPS: i32 = 1978;

fn oids(numbers: &[i32]) -> ScalarValue {
    let numbers: Vec<_> = numbers.iter().map(|number| ScalarValue::from(*number)).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int32))
}

/// The rows in the columns of a schema.
pub(super) fn batch(schema: &SchemaRef, rows: &[Row]) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        if rows.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        let value = |row: &Row| match row.get(field.name().as_str()) {
            Some(value) => value.cast_to(field.data_type()),
            None if field.is_nullable() => ScalarValue::try_from(field.data_type()),
            None => ScalarValue::new_default(field.data_type()),
        };
        ScalarValue::iter_to_array(rows.iter().map(value).collect::<Result<Vec<_>>>()?)
    };
    Ok(RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect::<Result<_>>()?)?)
}

/// A table of the library's with other types for some of its columns, and further columns.
pub(super) fn retyped(schema: &SchemaRef, changed: &[(&str, DataType)]) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| changed.iter().all(|(name, _)| name != field.name()));
    let mut fields: Vec<_> = kept.cloned().collect();
    fields.extend(changed.iter().map(|(name, data_type)| Arc::new(Field::new(*name, data_type.clone(), true))));
    Arc::new(Schema::new(fields))
}

/// `pg_class`: one row per relation.
pub(super) fn class(relations: &Relations, namespace: i32) -> Vec<Row> {
    let of = |relation: &Relation| {
        let (kind, columns) = match relation.kind {
            Kind::Table => ("r", relations.columns(relation).len()),
            Kind::View => ("v", relations.columns(relation).len()),
            Kind::Index => ("i", relation.table.as_deref().and_then(primary_key).map_or(0, |key| key.len())),
        };
        let method = if relation.kind == Kind::Index { BTREE } else { 0 };
        let indexed = relation.kind == Kind::Table && relation.table.as_deref().and_then(primary_key).is_some();
        row([
            ("oid", relation.oid.into()),
            ("relname", text(&relation.name)),
            ("relnamespace", namespace.into()),
            ("relowner", OWNER.into()),
            ("relam", method.into()),
            ("relfilenode", relation.oid.into()),
            ("reltuples", ScalarValue::from(-1.0_f64)),
            ("relhasindex", indexed.into()),
            ("relpersistence", text("p")),
            ("relkind", text(kind)),
            ("relnatts", ScalarValue::from(columns as i16)),
            ("relispopulated", true.into()),
            ("relreplident", text("d")),
        ])
    };
    relations.all().iter().map(of).collect()
}

/// `pg_index`: one row per primary key.
pub(super) fn index(relations: &Relations) -> Vec<Row> {
    keyed(relations, |relation, key| {
        row([
            ("indexrelid", relation.oid.into()),
            ("indrelid", oid("relation", &table_of(relation)).into()),
            ("indnatts", ScalarValue::from(key.len() as i16)),
            ("indnkeyatts", ScalarValue::from(key.len() as i16)),
            ("indisunique", true.into()),
            ("indisprimary", true.into()),
            ("indimmediate", true.into()),
            ("indisvalid", true.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", numbers(key)),
            ("indoption", numbers(&vec![0; key.len()])),
            ("indclass", oids(&vec![INT4_OPS; key.len()])),
            ("indcollation", oids(&vec![0; key.len()])),
        ])
    })
}

/// `pg_constraint`: one row per primary key.
pub(super) fn constraint(relations: &Relations, namespace: i32) -> Vec<Row> {
    keyed(relations, |relation, key| {
        row([
            ("oid", oid("constraint", &relation.name).into()),
            ("conname", text(&relation.name)),
            ("connamespace", namespace.into()),
            ("contype", text("p")),
            ("convalidated", true.into()),
            ("conrelid", oid("relation", &table_of(relation)).into()),
            ("conindid", relation.oid.into()),
            ("conislocal", true.into()),
            ("conkey", numbers(key)),
        ])
    })
}

fn keyed(relations: &Relations, make: impl Fn(&Relation, &[i16]) -> Row) -> Vec<Row> {
    let all = relations.all();
    let indexes = all.iter().filter(|relation| relation.kind == Kind::Index);
    indexes.filter_map(|index| Some(make(index, &primary_key(index.table.as_deref()?)?))).collect()
}

fn table_of(index: &Relation) -> String {
    index.table.as_ref().map(|table| table.name.clone()).unwrap_or_default()
}

/// `pg_attrdef`: one row per DEFAULT.
pub(super) fn attrdef(relations: &Relations) -> Vec<Row> {
    let all = relations.all();
    let of = |relation: &Relation| {
        let defaults = relations.columns(relation).into_iter().enumerate();
        let oid_of_table = relation.oid;
        let defaults = defaults.filter_map(move |(place, column)| {
            let default = column.default?;
            Some(row([
                ("oid", oid("default", &format!("{oid_of_table}.{}", column.name)).into()),
                ("adrelid", oid_of_table.into()),
                ("adnum", ScalarValue::from(place as i16 + 1)),
                ("adbin", text(default)),
            ]))
        });
        defaults.collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// `pg_indexes`, with its columns.
pub(super) fn indexes(relations: &Relations) -> (SchemaRef, Vec<Row>) {
    let rows = keyed(relations, |relation, _| {
        row([
            ("schemaname", text(SCHEMA)),
            ("tablename", text(table_of(relation))),
            ("indexname", text(&relation.name)),
            ("indexdef", text(index_definition(relation))),
        ])
    });
    (texts(&["schemaname", "tablename", "indexname", "tablespace", "indexdef"]), rows)
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)`.
pub(super) fn index_definition(index: &Relation) -> String {
    let columns = index.table.as_deref().map(key_columns).unwrap_or_default();
    format!(
        "CREATE UNIQUE INDEX {} ON {SCHEMA}.{} USING btree ({columns})",
        quoted(&index.name),
        quoted(&table_of(index))
    )
}

/// `pg_roles`: the one user that there is.
pub(super) fn roles() -> Vec<Row> {
    let yes =
        ["rolsuper", "rolinherit", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls"];
    let mut role = row([("rolname", text("postgres")), ("oid", OWNER.into()), ("rolconnlimit", ScalarValue::from(-1))]);
    role.extend(yes.map(|name| (name, ScalarValue::from(true))));
    vec![role]
}

/// `pg_user`, with its columns: the one user that there is.
pub(super) fn users() -> (SchemaRef, Vec<Row>) {
    let flags = ["usecreatedb", "usesuper", "userepl", "usebypassrls"].map(|name| (name, DataType::Boolean));
    let schema = retyped(&texts(&["usename", "passwd"]), &flags);
    let schema = retyped(&schema, &[("usesysid", DataType::Int32)]);
    let user = row([
        ("usename", text("postgres")),
        ("usesysid", OWNER.into()),
        ("usecreatedb", true.into()),
        ("usesuper", true.into()),
    ]);
    (schema, vec![user])
}

/// Tables of which juno has nothing to tell, with their columns.
pub(super) const EMPTY: &[(&str, &[&str])] = &[
    ("pg_parameter_acl", &["oid", "parname", "paracl"]),
    ("pg_user_mappings", &["umid", "srvid", "srvname", "umuser", "usename", "umoptions"]),
];

/// The columns of `pg_settings`.
pub(super) const SETTINGS: &[&str] = &[
    "name",
    "setting",
    "unit",
    "category",
    "short_desc",
    "extra_desc",
    "context",
    "vartype",
    "source",
    "min_val",
    "max_val",
    "enumvals",
    "boot_val",
    "reset_val",
    "sourcefile",
    "sourceline",
    "pending_restart",
];

/// `pg_settings`: every setting with its default.
pub(super) fn settings() -> Vec<Row> {
    // What JDBC asks for besides: columns of a key.
    let all = setting::defaults().chain([("max_index_keys", "32")]);
    let of = |(name, value): (&str, &str)| {
        row([
            ("name", text(name)),
            ("setting", text(value)),
            ("category", text("juno")),
            ("context", text("user")),
            ("vartype", text("string")),
            ("source", text("default")),
            ("boot_val", text(value)),
            ("reset_val", text(value)),
            ("pending_restart", text("f")),
        ])
    };
    all.map(of).collect()
}

/// The columns of a key as they stand in a definition.
pub(super) fn key_columns(table: &juno_engine::TableSchema) -> String {
    table.key.iter().map(|index| quoted(&table.columns[*index].name)).collect::<Vec<_>>().join(", ")
}

/// A schema of texts that may be null.
pub(super) fn texts(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Utf8, true);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// A view of `information_schema` by its name, with its columns; none where juno has no such view.
pub(super) fn information(relations: &Relations, name: &str) -> Option<(SchemaRef, Vec<Row>)> {
    let shown = || relations.all().into_iter().filter(|relation| relation.kind != Kind::Index);
    Some(match name {
        "tables" => tables(shown()),
        "views" => views(shown()),
        "columns" => (column_fields(), shown().flat_map(|relation| column_rows(relations, &relation)).collect()),
        "table_constraints" => {
            let rows = keyed(relations, |relation, _| {
                let mut row = constraint_row(relation);
                row.extend([("table_catalog", text(DATABASE)), ("table_schema", text(SCHEMA))]);
                row.extend([("table_name", text(table_of(relation))), ("constraint_type", text("PRIMARY KEY"))]);
                row.extend([
                    ("is_deferrable", text("NO")),
                    ("initially_deferred", text("NO")),
                    ("enforced", text("YES")),
                ]);
                row
            });
            let names = ["table_catalog", "table_schema", "table_name", "constraint_type", "is_deferrable"];
            (texts(&[&CONSTRAINT[..], &names, &["initially_deferred", "enforced"]].concat()), rows)
        }
        "key_column_usage" | "constraint_column_usage" => {
            let all = relations.all();
            let indexes = all.iter().filter(|relation| relation.kind == Kind::Index);
            let rows = indexes.flat_map(|relation| {
                let table = relation.table.as_deref().expect("an index has a table");
                table.key.iter().enumerate().map(move |(place, index)| {
                    let mut row = constraint_row(relation);
                    row.extend([("table_catalog", text(DATABASE)), ("table_schema", text(SCHEMA))]);
                    row.extend([("table_name", text(&table.name)), ("column_name", text(&table.columns[*index].name))]);
                    row.insert("ordinal_position", ScalarValue::from(place as i32 + 1));
                    row
                })
            });
            let names = ["table_catalog", "table_schema", "table_name", "column_name"];
            let fields = texts(&[&CONSTRAINT[..], &names].concat());
            let place = [("ordinal_position", DataType::Int32), ("position_in_unique_constraint", DataType::Int32)];
            (retyped(&fields, &place), rows.collect())
        }
        "referential_constraints" => (
            texts(
                &[&CONSTRAINT[..], &["unique_constraint_name", "match_option", "update_rule", "delete_rule"]].concat(),
            ),
            Vec::new(),
        ),
        "schemata" => {
            let of = |name: &str| {
                row([("catalog_name", text(DATABASE)), ("schema_name", text(name)), ("schema_owner", text("postgres"))])
            };
            let rows = ["information_schema", "pg_catalog", SCHEMA].map(of).into();
            (texts(&["catalog_name", "schema_name", "schema_owner", "sql_path"]), rows)
        }
        _ => return None,
    })
}

fn tables(shown: impl Iterator<Item = Relation>) -> (SchemaRef, Vec<Row>) {
    let of = |relation: Relation| {
        let view = relation.kind == Kind::View;
        row([
            ("table_catalog", text(DATABASE)),
            ("table_schema", text(SCHEMA)),
            ("table_name", text(relation.name)),
            ("table_type", text(if view { "VIEW" } else { "BASE TABLE" })),
            ("is_insertable_into", text(if view { "NO" } else { "YES" })),
            ("is_typed", text("NO")),
        ])
    };
    let names = ["table_catalog", "table_schema", "table_name", "table_type", "is_insertable_into", "is_typed"];
    (texts(&names), shown.map(of).collect())
}

fn views(shown: impl Iterator<Item = Relation>) -> (SchemaRef, Vec<Row>) {
    let views = shown.filter(|relation| relation.kind == Kind::View);
    let of = |relation: Relation| {
        row([
            ("table_catalog", text(DATABASE)),
            ("table_schema", text(SCHEMA)),
            ("table_name", text(relation.name)),
            ("view_definition", optional(relation.definition)),
            ("check_option", text("NONE")),
            ("is_updatable", text("NO")),
            ("is_insertable_into", text("NO")),
        ])
    };
    let names = ["table_catalog", "table_schema", "table_name", "view_definition", "check_option"];
    let names = [&names[..], &["is_updatable", "is_insertable_into"]].concat();
    (texts(&names), views.map(of).collect())
}

const CONSTRAINT: [&str; 3] = ["constraint_catalog", "constraint_schema", "constraint_name"];

fn constraint_row(index: &Relation) -> Row {
    row([
        ("constraint_catalog", text(DATABASE)),
        ("constraint_schema", text(SCHEMA)),
        ("constraint_name", text(key_name(&table_of(index)))),
    ])
}

fn column_fields() -> SchemaRef {
    let named = texts(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "column_default",
        "is_nullable",
        "data_type",
        "udt_catalog",
        "udt_schema",
        "udt_name",
        "domain_name",
        "collation_name",
        "is_identity",
        "identity_generation",
        "is_generated",
        "generation_expression",
        "is_updatable",
    ]);
    let counted = [
        "ordinal_position",
        "character_maximum_length",
        "character_octet_length",
        "numeric_precision",
        "numeric_precision_radix",
        "numeric_scale",
        "datetime_precision",
    ];
    retyped(&named, &counted.map(|name| (name, DataType::Int32)))
}

fn column_rows(relations: &Relations, relation: &Relation) -> Vec<Row> {
    let of = |(place, column): (usize, super::relation::Column)| {
        let mut row = row([
            ("table_catalog", text(DATABASE)),
            ("table_schema", text(SCHEMA)),
            ("table_name", text(&relation.name)),
            ("column_name", text(column.name)),
            ("ordinal_position", ScalarValue::from(place as i32 + 1)),
            ("column_default", optional(column.default)),
            ("is_nullable", text(if column.nullable { "YES" } else { "NO" })),
            ("data_type", text(column.type_name)),
            ("character_maximum_length", ScalarValue::Int32(column.characters_max)),
            ("datetime_precision", ScalarValue::Int32(column.is_time.then_some(6))),
            ("udt_catalog", text(DATABASE)),
            ("udt_schema", text("pg_catalog")),
            ("udt_name", text(column.short_name)),
            ("is_identity", text("NO")),
            ("is_generated", text("NEVER")),
            ("is_updatable", text(if relation.kind == Kind::View { "NO" } else { "YES" })),
        ]);
        if let Some((digits, base, after_point)) = column.numeric {
            row.insert("numeric_precision", ScalarValue::from(digits));
            row.insert("numeric_precision_radix", ScalarValue::from(base));
            row.insert("numeric_scale", ScalarValue::Int32(after_point));
        }
        row
    };
    relations.columns(relation).into_iter().enumerate().map(of).collect()
}
