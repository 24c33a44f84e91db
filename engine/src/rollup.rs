//! Rollups: widths of blocks that users declare for a table, beside those that its parts have anyway.
//!
//! **Invariant:** pure; says what is declared, not what parts hold.

use crate::{Error, Result, TableKind, TableSchema};

/// The most rollups of a table.
pub const ROLLUPS_MAX: usize = 8;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Block aggregates of a table at a width of their own, which its parts keep from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// The name, unique among the rollups of the database.
    pub name: String,
    /// The width of a block in microseconds: whole seconds, of which a day is a multiple.
    pub width_us: i64,
    /// The columns beside tags and time that are aggregated; all where empty.
    pub columns: Vec<String>,
}

impl Rollup {
    /// Whether blocks may be so wide: from a second to a day, and so that a day is a whole number of them.
    pub fn is_width(width_us: i64) -> bool {
        (SECOND_US..=DAY_US).contains(&width_us) && width_us % SECOND_US == 0 && DAY_US % width_us == 0
    }

    /// Whether it aggregates a column of the table that is neither tag nor time.
    pub(crate) fn names(&self, column: &str) -> bool {
        self.columns.is_empty() || self.columns.iter().any(|name| name == column)
    }

    pub(crate) fn check(&self, table: &TableSchema) -> Result<()> {
        let refuse = |reason: String| Err(Error::InvalidSchema { table: table.name.clone(), reason });
        if self.name.is_empty() {
            return refuse("a rollup has an empty name".into());
        }
        if !Self::is_width(self.width_us) {
            return refuse(format!(
                "rollup \"{}\" has blocks of {} microseconds; a day must be a multiple of the width, and that one of a second",
                self.name, self.width_us
            ));
        }
        if table.kind == TableKind::Keyed {
            return refuse("it has no time; only telemetry tables have rollups".into());
        }
        for name in &self.columns {
            let index = table.column(name);
            let index =
                index.ok_or_else(|| Error::UnknownColumn { table: table.name.clone(), column: name.clone() })?;
            if table.key.contains(&index) {
                return refuse(format!(
                    "rollup \"{}\" aggregates columns beside tags and time, not \"{name}\"",
                    self.name
                ));
            }
        }
        Ok(())
    }
}
