//! CREATE ROLLUP and DROP ROLLUP.
//!
//! **Invariant:** takes effect at once and for everybody; parts that are there are written anew in the background.

use juno_engine::{Alteration, Rollup};

use super::{Session, blocking};
use crate::rollup::{self, RollupStatement};
use crate::statement::Outcome;
use crate::{Error, Result, ops};

impl Session {
    pub(super) async fn rollup_statement(&self, statement: &RollupStatement) -> Result<Outcome> {
        self.check_writable(statement.tag())?;
        let mut notices = match statement {
            RollupStatement::Create { rollup, table, if_not_exists } => {
                self.create_rollup(rollup, table, *if_not_exists).await?
            }
            RollupStatement::Drop { names, if_exists } => self.drop_rollups(names, *if_exists).await?,
        };
        self.warn_of_transaction(&mut notices, statement.tag());
        Ok(Outcome::Done { tag: statement.tag().into(), notices })
    }

    async fn create_rollup(&self, rollup: &Rollup, table: &str, if_not_exists: bool) -> Result<Vec<String>> {
        let name = &rollup.name;
        if rollup::find(&self.shared.db, name).is_some() {
            return match if_not_exists {
                true => Ok(vec![format!("rollup \"{name}\" already exists, skipping")]),
                false => Err(Error::DuplicateObject(format!("rollup \"{name}\" already exists"))),
            };
        }
        self.check_rollup(rollup, table)?;
        self.alter_rollups(table.to_owned(), Alteration::AddRollup(rollup.clone())).await?;
        Ok(Vec::new())
    }

    fn check_rollup(&self, rollup: &Rollup, name: &str) -> Result<()> {
        if self.shared.planner.public.has_view(name) {
            return Err(Error::WrongKind(format!("\"{name}\" is a view: a rollup is of a table")));
        }
        if ops::is_system_table(name) {
            return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be altered")));
        }
        let catalog = self.shared.db.catalog();
        let table = catalog.table(name);
        let table = table.ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist")))?;
        if table.time().is_none() {
            let text = format!("\"{name}\" is no telemetry table: it has no time column that a rollup could go by");
            return Err(Error::WrongKind(text));
        }
        for column in &rollup.columns {
            let index = table.column(column).ok_or_else(|| {
                Error::UndefinedColumn(format!("column \"{column}\" of relation \"{name}\" does not exist"))
            })?;
            if table.key.contains(&index) {
                let text =
                    format!("\"{column}\" is a tag or the time: a rollup is always by these; name other columns");
                return Err(Error::InvalidDefinition(text));
            }
        }
        Ok(())
    }

    async fn drop_rollups(&self, names: &[String], if_exists: bool) -> Result<Vec<String>> {
        let (mut notices, mut found) = (Vec::new(), Vec::new());
        // All are looked at before any is dropped.
        for name in names {
            match rollup::find(&self.shared.db, name) {
                Some((table, _)) => found.push((table, name.clone())),
                None if if_exists => notices.push(format!("rollup \"{name}\" does not exist, skipping")),
                None => return Err(Error::UndefinedType(format!("rollup \"{name}\" does not exist"))),
            }
        }
        for (table, name) in found {
            self.alter_rollups(table, Alteration::DropRollup(name)).await?;
        }
        Ok(notices)
    }

    async fn alter_rollups(&self, table: String, alteration: Alteration) -> Result<()> {
        let db = self.shared.db.clone();
        blocking(move || Ok(db.alter_table(&table, alteration)?)).await
    }
}
