//! CREATE, ALTER, TRUNCATE and DROP of tables and views.
//!
//! Each is a transaction of its own, or waits with the rest of the transaction that it stands in.
//!
//! **Invariant:** nothing is changed before COMMIT, and then all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, CreateTable, ObjectName, Statement as Sql};
use futures::future::BoxFuture;

use juno_engine::{Alteration, TableChange, TableSchema};

use super::Session;
use crate::catalog::PublicSchema;
use crate::statement::{Kind, Outcome, Statement, ViewDefinition};
use crate::transaction::TransactionStatus;
use crate::{Error, Result, alter, definition, ops, view};

impl Session {
    pub(super) async fn create_table(&self, create: &CreateTable) -> Result<Outcome> {
        self.check_writable("CREATE TABLE")?;
        if let Some(query) = &create.query {
            return self.create_table_as(create, query).await;
        }
        let defined = definition::define(create, None, &self.shared.bare)?;
        let mut notices = defined.notices;
        if let Some(notice) = self.define(create, defined.table)? {
            notices = vec![notice];
        }
        Ok(Outcome::Done { tag: "CREATE TABLE".into(), notices })
    }

    /// Creates a table; the notice that IF NOT EXISTS found one.
    fn define(&self, create: &CreateTable, table: TableSchema) -> Result<Option<String>> {
        let name = table.name.clone();
        if self.public().has_view(&name) {
            return Err(Error::DuplicateTable(name));
        }
        match self.change_tables(TableChange::Create(table)) {
            Ok(()) => Ok(None),
            Err(Error::DuplicateTable(_)) if create.if_not_exists => {
                Ok(Some(format!("relation \"{name}\" already exists, skipping")))
            }
            Err(error) => Err(error),
        }
    }

    /// Has a change of tables wait for COMMIT.
    pub(super) fn change_tables(&self, change: TableChange) -> Result<()> {
        let mut transaction = self.transaction.lock();
        transaction.define(&self.shared.db, change)?;
        let draft = transaction.begin_draft(&self.shared.planner.public)?;
        draft.public.see(transaction.view(&self.shared.db).whole.catalog());
        Ok(())
    }

    /// The views, as the transaction is about to change them.
    fn views_to_change(&self) -> Result<Arc<PublicSchema>> {
        let mut transaction = self.transaction.lock();
        let draft = transaction.begin_draft(&self.shared.planner.public)?;
        draft.change_views();
        Ok(Arc::clone(&draft.public))
    }

    /// CREATE TABLE AS: a table of the query's columns, then its rows.
    async fn create_table_as(&self, create: &CreateTable, query: &ast::Query) -> Result<Outcome> {
        let parsed = Parsed::Statement(Box::new(Sql::Query(Box::new(query.clone()))));
        let prepared = self.prepare(Statement { kind: Kind::Query("SELECT", Box::new(parsed)) }, &[]).await?;
        let schema = prepared.schema.as_ref().ok_or_else(|| Error::Internal("a query has columns".into()))?;
        let columns = definition::columns_of(schema, create)?;
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let defined = definition::define(create, Some(columns), &self.shared.bare)?;
        let name = defined.table.name.clone();
        let notices = defined.notices;
        if let Some(notice) = self.define(create, defined.table)? {
            return Ok(Outcome::Done { tag: "CREATE TABLE AS".into(), notices: vec![notice] });
        }
        let count = self.filled(&name, &names, query).await?;
        Ok(Outcome::Done { tag: format!("SELECT {count}"), notices })
    }

    /// As [`Self::fill`], boxed: statements contain statements here.
    fn filled<'a>(
        &'a self,
        table: &'a str,
        columns: &'a [String],
        query: &'a ast::Query,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(self.fill(table, columns, query))
    }

    /// Inserts a query's rows into a table; how many.
    async fn fill(&self, table: &str, columns: &[String], query: &ast::Query) -> Result<String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let list: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let text = format!("INSERT INTO {} ({}) SELECT 1", quoted(table), list.join(", "));
        let Some(Statement { kind: Kind::Change(mut insert) }) = self.parse(&text)?.pop() else {
            return Err(Error::Internal("an INSERT parsed to something else".into()));
        };
        if let Parsed::Statement(statement) = insert.as_mut()
            && let Sql::Insert(insert) = statement.as_mut()
        {
            insert.source = Some(Box::new(query.clone()));
        }
        let prepared = self.prepare(Statement { kind: Kind::Change(insert) }, &[]).await?;
        match self.execute(&prepared, Vec::new()).await? {
            Outcome::Done { tag, .. } => Ok(tag.trim_start_matches("INSERT 0 ").to_owned()),
            _ => Err(Error::Internal("an INSERT without RETURNING gave rows".into())),
        }
    }

    pub(super) async fn drop_tables(&self, names: &[ObjectName], if_exists: bool, cascade: bool) -> Result<Outcome> {
        self.check_writable("DROP TABLE")?;
        let public = self.public();
        let mut notices = Vec::new();
        let mut tables = Vec::new();
        // All are looked at before any is dropped.
        for name in names {
            let name = definition::table_name(name)?;
            if public.user_views().contains_key(&name) {
                return Err(Error::WrongKind(format!("\"{name}\" is not a table: use DROP VIEW")));
            }
            if public.has_view(&name) || ops::is_system_table(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            }
            if public.catalog().table(&name).is_some() {
                tables.push(name);
            } else if if_exists {
                notices.push(format!("table \"{name}\" does not exist, skipping"));
            } else {
                return Err(Error::UndefinedTable(format!("table \"{name}\" does not exist")));
            }
        }
        self.check_detectors(&format!("table {}", tables.join(", ")), &tables)?;
        let dependents = view::dependents(&public.user_views(), &tables);
        self.drop_dependents(&format!("table {}", tables.join(", ")), dependents, cascade, &mut notices).await?;
        for name in tables {
            self.locked(&name).await?;
            self.change_tables(TableChange::Drop(name))?;
        }
        Ok(Outcome::Done { tag: "DROP TABLE".into(), notices })
    }

    pub(super) async fn alter_table(&self, alter: &ast::AlterTable) -> Result<Outcome> {
        self.check_writable("ALTER TABLE")?;
        let mut name = definition::table_name(&alter.name)?;
        let mut notices = Vec::new();
        for operation in &alter.operations {
            let Some(table) = self.alterable(&name, alter.if_exists, &mut notices)? else { break };
            let readers = view::dependents(&self.public().user_views(), std::slice::from_ref(&name));
            if alter::takes_names(operation) && !readers.is_empty() {
                let readers: Vec<String> = readers.into_iter().collect();
                return Err(Error::Unsupported(format!(
                    "\"{name}\" is read by view {}: drop it before this, and make it again",
                    readers.join(", ")
                )));
            }
            if alter::takes_names(operation) {
                self.check_detectors(&format!("\"{name}\""), std::slice::from_ref(&name))?;
            }
            let altered = alter::alter(&table, operation, &self.shared.bare)?;
            notices.extend(altered.notices);
            for alteration in altered.alterations {
                name = self.altered(name, alteration).await?;
            }
            if !readers.is_empty() {
                // Their plans were made for the table as it was.
                self.views_to_change()?;
                Box::pin(view::load(self)).await?;
            }
        }
        Ok(Outcome::Done { tag: "ALTER TABLE".into(), notices })
    }

    /// Alters a table; the name that it has then.
    async fn altered(&self, name: String, alteration: Alteration) -> Result<String> {
        let then = match &alteration {
            Alteration::RenameTable(to) if self.public().has_view(to) => {
                return Err(Error::DuplicateTable(to.clone()));
            }
            Alteration::RenameTable(to) => to.clone(),
            _ => name.clone(),
        };
        self.locked(&name).await?;
        self.change_tables(TableChange::Alter(name, alteration))?;
        Ok(then)
    }

    /// Takes the lock of a table to the end of the transaction.
    async fn locked(&self, table: &str) -> Result<()> {
        self.lock(table).await.map(drop)
    }

    /// A table that users may alter; none where it is missing and may be.
    fn alterable(&self, name: &str, if_exists: bool, notices: &mut Vec<String>) -> Result<Option<Arc<TableSchema>>> {
        if ops::is_system_table(name) {
            return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be altered")));
        }
        if self.public().has_view(name) {
            return Err(Error::WrongKind(format!("\"{name}\" is not a table")));
        }
        match self.public().catalog().table(name) {
            Some(table) => Ok(Some(Arc::clone(table))),
            None if if_exists => {
                notices.push(format!("relation \"{name}\" does not exist, skipping"));
                Ok(None)
            }
            None => Err(Error::UndefinedTable(format!("relation \"{name}\" does not exist"))),
        }
    }

    pub(super) async fn truncate(&self, names: &[ObjectName], if_exists: bool) -> Result<Outcome> {
        self.check_writable("TRUNCATE")?;
        let public = self.public();
        let mut notices = Vec::new();
        let mut tables = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if public.has_view(&name) {
                return Err(Error::WrongKind(format!("\"{name}\" is not a table")));
            }
            match public.catalog().table(&name) {
                Some(_) => tables.push(name),
                None if if_exists => notices.push(format!("relation \"{name}\" does not exist, skipping")),
                None => return Err(Error::UndefinedTable(format!("relation \"{name}\" does not exist"))),
            }
        }
        for name in tables {
            self.locked(&name).await?;
            self.change_tables(TableChange::Truncate(name))?;
        }
        Ok(Outcome::Done { tag: "TRUNCATE TABLE".into(), notices })
    }

    async fn drop_dependents(
        &self,
        what: &str,
        dependents: BTreeSet<String>,
        cascade: bool,
        notices: &mut Vec<String>,
    ) -> Result<()> {
        let names: Vec<String> = dependents.into_iter().collect();
        if names.is_empty() {
            return Ok(());
        }
        if !cascade {
            return Err(Error::Dependents(what.to_owned(), names.join(", ")));
        }
        notices.extend(names.iter().map(|name| format!("drop cascades to view {name}")));
        self.forget_views(&names).await
    }

    pub(super) async fn create_view(&self, defined: &ViewDefinition) -> Result<Outcome> {
        self.check_writable("CREATE VIEW")?;
        let (public, create) = (self.public(), &defined.view);
        let (name, columns) = view::heading(create)?;
        let mut notices = Vec::new();
        let known = public.user_views().contains_key(&name);
        if known && create.if_not_exists {
            notices.push(format!("relation \"{name}\" already exists, skipping"));
            return Ok(Outcome::Done { tag: "CREATE VIEW".into(), notices });
        }
        let taken = public.has_view(&name) || public.catalog().table(&name).is_some();
        if taken && !(known && create.or_replace) {
            return Err(Error::DuplicateTable(name));
        }
        definition::check_name(&name)?;
        let (table, made) = view::plan(&self.planner()?.state, defined, &columns).await?;
        let below = view::dependents(&public.user_views(), std::slice::from_ref(&name));
        if made.reads.contains(&name) || below.iter().any(|view| made.reads.contains(view)) {
            return Err(Error::InvalidDefinition(format!("view \"{name}\" would read itself")));
        }
        let text = view::statement(&name, &columns, &made.definition);
        let quoted = |text: &str| text.replace('\'', "''");
        let sql = format!(
            "INSERT INTO juno_views VALUES ('{}', '{}') ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
            quoted(&name),
            quoted(&text)
        );
        Box::pin(self.step(&sql)).await?;
        self.views_to_change()?.add_user_view(&name, Arc::new(table), made);
        if known {
            // Those that read it were planned over what it was.
            Box::pin(view::load(self)).await?;
        }
        Ok(Outcome::Done { tag: "CREATE VIEW".into(), notices })
    }

    /// Plans a stored view and puts it into the catalog.
    pub(crate) async fn register_view(&self, defined: &ViewDefinition) -> Result<()> {
        let (name, columns) = view::heading(&defined.view)?;
        let (table, made) = view::plan(&self.planner()?.state, defined, &columns).await?;
        self.public().add_user_view(&name, Arc::new(table), made);
        Ok(())
    }

    /// The tables and views that a stored view names.
    pub(crate) fn reads(&self, view: &ast::CreateView) -> Result<BTreeSet<String>> {
        let parsed = Parsed::Statement(Box::new(Sql::Query(view.query.clone())));
        view::reads(&self.shared.planner.state, &parsed)
    }

    /// Forgets the views that are not among these.
    pub(crate) fn keep_views(&self, names: &BTreeSet<String>) {
        let public = self.public();
        public.user_views().keys().filter(|name| !names.contains(*name)).for_each(|name| public.remove_user_view(name));
    }

    /// Held while views are planned anew.
    pub(crate) async fn planning_views(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.planning_views.lock().await
    }

    pub(super) async fn drop_views(&self, names: &[ObjectName], if_exists: bool, cascade: bool) -> Result<Outcome> {
        self.check_writable("DROP VIEW")?;
        let public = self.public();
        let mut notices = Vec::new();
        let mut views = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if public.user_views().contains_key(&name) {
                views.push(name);
            } else if public.has_view(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            } else if public.catalog().table(&name).is_some() {
                return Err(Error::WrongKind(format!("\"{name}\" is not a view: use DROP TABLE")));
            } else if if_exists {
                notices.push(format!("view \"{name}\" does not exist, skipping"));
            } else {
                return Err(Error::UndefinedTable(format!("view \"{name}\" does not exist")));
            }
        }
        let mut dependents = view::dependents(&public.user_views(), &views);
        dependents.retain(|name| !views.contains(name));
        self.drop_dependents(&format!("view {}", views.join(", ")), dependents, cascade, &mut notices).await?;
        self.forget_views(&views).await?;
        Ok(Outcome::Done { tag: "DROP VIEW".into(), notices })
    }

    async fn forget_views(&self, names: &[String]) -> Result<()> {
        let list: Vec<String> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        if !list.is_empty() {
            let sql = format!("DELETE FROM juno_views WHERE name IN ({})", list.join(", "));
            Box::pin(self.step(&sql)).await?;
        }
        let public = self.views_to_change()?;
        names.iter().for_each(|name| public.remove_user_view(name));
        Ok(())
    }

    pub(super) fn warn_of_transaction(&self, notices: &mut Vec<String>, command: &str) {
        if self.transaction_status() == TransactionStatus::Open {
            notices.push(format!("{command} takes effect at once and is not undone by ROLLBACK"));
        }
    }
}
