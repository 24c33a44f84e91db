//! What a table that exists already says about the rows that may come.
//!
//! **Invariant:** a picture of one moment; the session checks again when it stores.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use juno_sql::Incoming;
use juno_sql::engine::{Catalog, TableSchema};

/// A table's time column, tags and field types.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// None where the table is not telemetry.
    pub(crate) time: Option<String>,
    pub(crate) tags: Vec<String>,
    /// All columns but time and tags.
    pub(crate) fields: HashMap<String, DataType>,
}

impl Known {
    pub(crate) fn of(table: &TableSchema) -> Known {
        let name = |at: &usize| table.columns[*at].name.clone();
        let tags: Vec<String> = if table.time().is_some() { table.tags().iter().map(name).collect() } else { vec![] };
        let time = table.time().as_ref().map(name);
        let fields =
            table.columns.iter().filter(|column| !tags.contains(&column.name) && Some(&column.name) != time.as_ref());
        let fields = fields.map(|column| (column.name.clone(), column.data_type.clone())).collect();
        Known { name: table.name.clone(), time, tags, fields }
    }
}

/// Tables as a catalog has them, and as the rows that were read since will make them.
pub(crate) struct Tables {
    catalog: Arc<Catalog>,
    learnt: HashMap<String, Known>,
}

impl Tables {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Tables {
        Tables { catalog, learnt: HashMap::new() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Known> {
        self.learnt.get(name).cloned().or_else(|| self.catalog.table(name).map(|table| Known::of(table)))
    }

    /// Takes over what storing these rows will add.
    pub(crate) fn learn(&mut self, incoming: &Incoming) {
        let mut known = self.get(&incoming.table).unwrap_or_else(|| Known {
            name: incoming.table.clone(),
            time: Some(incoming.time.clone()),
            tags: incoming.tags.clone(),
            fields: HashMap::new(),
        });
        for field in incoming.rows.schema_ref().fields() {
            let other = *field.name() == incoming.time || known.tags.contains(field.name());
            if !other && !known.fields.contains_key(field.name()) {
                known.fields.insert(field.name().clone(), field.data_type().clone());
            }
        }
        self.learnt.insert(incoming.table.clone(), known);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use arrow::record_batch::RecordBatch;

    use super::*;

    #[test]
    fn rows_that_were_read_settle_the_table_for_those_behind_them() {
        let mut tables = Tables::new(Arc::new(Catalog { tables: Default::default() }));
        let times: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![1]));
        let hosts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let rows = RecordBatch::try_from_iter([("time", times), ("host", hosts), ("v", values)]).unwrap();
        assert_eq!(tables.get("m"), None);
        tables.learn(&Incoming { table: "m".into(), rows, time: "time".into(), tags: vec!["host".into()] });
        let known = tables.get("m").unwrap();
        assert_eq!((known.tags.len(), known.fields.get("v"), known.fields.len()), (1, Some(&DataType::Float64), 1));
    }
}
