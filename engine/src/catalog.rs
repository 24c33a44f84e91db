//! The picture of all tables at one moment.
//!
//! **Invariant:** immutable; changes make a new picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::TableSchema;

/// All tables by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The tables, sorted by name.
    pub tables: BTreeMap<String, Arc<TableSchema>>,
}

impl Catalog {
    /// The table with this name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.tables.get(name)
    }
}
