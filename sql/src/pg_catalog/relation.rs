//! The relations of the public schema as PostgreSQL's catalog knows them: numbers, kinds, keys and columns.
//!
//! **Invariant:** a relation's number follows from its name alone, so that it is the same in every session and after a restart.

use std::sync::Arc;

use arrow::datatypes::DataType;
use juno_engine::{Db, TableKind, TableSchema};

use crate::catalog::PublicSchema;
use crate::functions::name_of;
use crate::types::{DEFAULT_KEY, HIDDEN_PREFIX, TYPE_KEY, varchar_limit};

/// Numbers below are PostgreSQL's own.
const OID_MIN: u32 = 16_384;

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    /// The index of a table's primary key.
    Index,
}

/// One relation.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The table, where it is one or is the index of one.
    pub(super) table: Option<Arc<TableSchema>>,
    /// What a view selects.
    pub(super) definition: Option<String>,
}

/// One column of a table or view.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// As PostgreSQL spells it in full, such as `character varying`.
    pub(super) type_name: String,
    /// As PostgreSQL's catalog calls it, such as `varchar`.
    pub(super) short_name: &'static str,
    pub(super) characters_max: Option<i32>,
    /// Digits, the base they are counted in, and those after the point.
    pub(super) numeric: Option<(i32, i32, Option<i32>)>,
    pub(super) is_time: bool,
    pub(super) nullable: bool,
    pub(super) default: Option<String>,
}

/// Where they are looked up.
#[derive(Clone)]
pub(crate) struct Relations {
    pub(super) public: Arc<PublicSchema>,
}

impl std::fmt::Debug for Relations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relations")
    }
}

/// The number of something by its kind and name.
pub(super) fn oid(kind: &str, name: &str) -> i32 {
    let number = OID_MIN + (crc32fast::hash(format!("{kind}:{name}").as_bytes()) & 0x3fff_ffff);
    i32::try_from(number).expect("31 bits hold it")
}

/// The columns of a table's primary key by their places, from 1; none where the table has no declared key.
pub(super) fn primary_key(table: &TableSchema) -> Option<Vec<i16>> {
    let declared = matches!(table.kind, TableKind::Keyed)
        && table.key.iter().all(|index| !table.columns[*index].name.starts_with(HIDDEN_PREFIX));
    let place = |index: &usize| {
        let hidden = table.columns[..*index].iter().filter(|column| column.name.starts_with(HIDDEN_PREFIX)).count();
        i16::try_from(index - hidden + 1).ok()
    };
    if declared { table.key.iter().map(place).collect() } else { None }
}

/// The name of a primary key and of its index.
pub(super) fn key_name(table: &str) -> String {
    format!("{table}_pkey")
}

impl Relations {
    pub(super) fn db(&self) -> &Db {
        self.public.db()
    }

    /// All of them: tables, their indexes, views.
    pub(super) fn all(&self) -> Vec<Relation> {
        let mut all = Vec::new();
        for (name, table) in &self.public.catalog().tables {
            let relation = |kind: Kind, name: String| Relation {
                oid: oid("relation", &name),
                name,
                kind,
                table: Some(Arc::clone(table)),
                definition: None,
            };
            all.push(relation(Kind::Table, name.clone()));
            if primary_key(table).is_some() {
                all.push(relation(Kind::Index, key_name(name)));
            }
        }
        for (name, view) in self.public.views() {
            let definition = view.get_table_definition().map(str::to_owned);
            all.push(Relation { oid: oid("relation", &name), name, kind: Kind::View, table: None, definition });
        }
        all
    }

    /// The relation of a name, which may carry its schema.
    pub(super) fn by_name(&self, name: &str) -> Option<Relation> {
        let name = name.strip_prefix("public.").unwrap_or(name).trim_matches('"');
        self.all().into_iter().find(|relation| relation.name == name)
    }

    /// The columns of a table or view.
    pub(super) fn columns(&self, relation: &Relation) -> Vec<Column> {
        match (&relation.table, relation.kind) {
            (Some(table), Kind::Table) => {
                let shown = table.columns.iter().filter(|column| !column.name.starts_with(HIDDEN_PREFIX));
                let column = |column: &juno_engine::Column| {
                    let sql = column.metadata.get(TYPE_KEY).map(String::as_str);
                    let default = column.metadata.get(DEFAULT_KEY).cloned();
                    described(&column.name, &column.data_type, sql, column.nullable, default)
                };
                shown.map(column).collect()
            }
            (_, Kind::View) => {
                let views = self.public.views();
                let Some((_, view)) = views.into_iter().find(|(name, _)| *name == relation.name) else {
                    return Vec::new();
                };
                let column = |field: &Arc<arrow::datatypes::Field>| {
                    let sql = field.metadata().get(TYPE_KEY).map(String::as_str);
                    described(field.name(), field.data_type(), sql, true, None)
                };
                view.schema().fields().iter().map(column).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn described(name: &str, data_type: &DataType, sql: Option<&str>, nullable: bool, default: Option<String>) -> Column {
    let limit = sql.and_then(varchar_limit).and_then(|limit| i32::try_from(limit).ok());
    let type_name = match sql {
        Some(_) if limit.is_some() => "character varying".to_owned(),
        Some(sql) => sql.to_owned(),
        None => name_of(data_type),
    };
    let numeric = match data_type {
        DataType::Decimal128(precision, scale) => Some((i32::from(*precision), 10, Some(i32::from(*scale)))),
        DataType::Int16 => Some((16, 2, Some(0))),
        DataType::Int32 => Some((32, 2, Some(0))),
        DataType::Int64 => Some((64, 2, Some(0))),
        DataType::Float32 => Some((24, 2, None)),
        DataType::Float64 => Some((53, 2, None)),
        _ => None,
    };
    Column {
        name: name.to_owned(),
        short_name: short(&type_name),
        type_name,
        characters_max: limit,
        numeric,
        is_time: data_type.is_temporal(),
        nullable,
        default,
    }
}

fn short(type_name: &str) -> &'static str {
    match type_name {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "numeric" => "numeric",
        "character varying" => "varchar",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "date" => "date",
        "interval" => "interval",
        "bytea" => "bytea",
        "uuid" => "uuid",
        "json" => "json",
        "jsonb" => "jsonb",
        "record" => "record",
        list if list.ends_with("[]") => "_text",
        _ => "text",
    }
}
