//! CREATE, ALTER, TRUNCATE and DROP of tables and views.
//!
//! **Invariant:** takes effect at once and for everybody; what waits in a transaction is not touched.

use std::sync::Arc;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{self, CreateTable, ObjectName, Statement as Sql};
use futures::future::BoxFuture;

use juno_engine::{Alteration, TableSchema};

use super::{Session, blocking};
use crate::statement::{Kind, Outcome, Statement};
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
        if let Some(notice) = self.define(create, defined.table).await? {
            notices = vec![notice];
        }
        self.warn_of_transaction(&mut notices, "CREATE TABLE");
        Ok(Outcome::Done { tag: "CREATE TABLE".into(), notices })
    }

    /// Creates a table; the notice that IF NOT EXISTS found one.
    async fn define(&self, create: &CreateTable, table: TableSchema) -> Result<Option<String>> {
        let name = table.name.clone();
        if self.shared.public.has_view(&name) {
            return Err(Error::DuplicateTable(name));
        }
        let db = self.shared.db.clone();
        match blocking(move || Ok(db.create_table(table)?)).await {
            Ok(()) => Ok(None),
            Err(Error::DuplicateTable(_)) if create.if_not_exists => {
                Ok(Some(format!("relation \"{name}\" already exists, skipping")))
            }
            Err(error) => Err(error),
        }
    }

    /// CREATE TABLE AS: a table of the query's columns, then its rows; where they do not fit, the table goes again.
    async fn create_table_as(&self, create: &CreateTable, query: &ast::Query) -> Result<Outcome> {
        let parsed = Parsed::Statement(Box::new(Sql::Query(Box::new(query.clone()))));
        let prepared = self.prepare(Statement { kind: Kind::Query("SELECT", Box::new(parsed)) }, &[]).await?;
        let schema = prepared.schema.as_ref().ok_or_else(|| Error::Internal("a query has columns".into()))?;
        let columns = definition::columns_of(schema, create)?;
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let defined = definition::define(create, Some(columns), &self.shared.bare)?;
        let name = defined.table.name.clone();
        let mut notices = defined.notices;
        if let Some(notice) = self.define(create, defined.table).await? {
            return Ok(Outcome::Done { tag: "CREATE TABLE AS".into(), notices: vec![notice] });
        }
        // A session of its own, since what waits in this one's transaction is for COMMIT.
        let filler = self.connect();
        let filled = filler.filled(&name, &names, query).await;
        if filled.is_err() {
            let db = self.shared.db.clone();
            blocking(move || Ok(db.drop_table(&name)?)).await?;
        }
        let count = filled?;
        self.warn_of_transaction(&mut notices, "CREATE TABLE AS");
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
        let mut notices = Vec::new();
        let mut tables = Vec::new();
        // All are looked at before any is dropped.
        for name in names {
            let name = definition::table_name(name)?;
            if self.shared.public.user_views().contains_key(&name) {
                return Err(Error::WrongKind(format!("\"{name}\" is not a table: use DROP VIEW")));
            }
            if self.shared.public.has_view(&name) || ops::is_system_table(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            }
            if self.shared.db.catalog().table(&name).is_some() {
                tables.push(name);
            } else if if_exists {
                notices.push(format!("table \"{name}\" does not exist, skipping"));
            } else {
                return Err(Error::UndefinedTable(format!("table \"{name}\" does not exist")));
            }
        }
        let dependents = view::dependents(&self.shared.public.user_views(), &tables);
        self.drop_dependents(&format!("table {}", tables.join(", ")), dependents, cascade, &mut notices).await?;
        for name in tables {
            let db = self.shared.db.clone();
            blocking(move || Ok(db.drop_table(&name)?)).await?;
        }
        self.warn_of_transaction(&mut notices, "DROP TABLE");
        Ok(Outcome::Done { tag: "DROP TABLE".into(), notices })
    }

    pub(super) async fn alter_table(&self, alter: &ast::AlterTable) -> Result<Outcome> {
        self.check_writable("ALTER TABLE")?;
        let mut name = definition::table_name(&alter.name)?;
        let mut notices = Vec::new();
        for operation in &alter.operations {
            let Some(table) = self.alterable(&name, alter.if_exists, &mut notices)? else { break };
            let readers = view::dependents(&self.shared.public.user_views(), std::slice::from_ref(&name));
            if alter::takes_names(operation) && !readers.is_empty() {
                let readers: Vec<String> = readers.into_iter().collect();
                return Err(Error::Unsupported(format!(
                    "\"{name}\" is read by view {}: drop it before this, and make it again",
                    readers.join(", ")
                )));
            }
            let altered = alter::alter(&table, operation, &self.shared.bare)?;
            notices.extend(altered.notices);
            for alteration in altered.alterations {
                name = self.altered(name, alteration).await?;
            }
            if !readers.is_empty() {
                // Their plans were made for the table as it was.
                Box::pin(view::load(&self.connect())).await?;
            }
        }
        self.warn_of_transaction(&mut notices, "ALTER TABLE");
        Ok(Outcome::Done { tag: "ALTER TABLE".into(), notices })
    }

    /// Alters a table; the name that it has then.
    async fn altered(&self, name: String, alteration: Alteration) -> Result<String> {
        let then = match &alteration {
            Alteration::RenameTable(to) if self.shared.public.has_view(to) => {
                return Err(Error::DuplicateTable(to.clone()));
            }
            Alteration::RenameTable(to) => to.clone(),
            _ => name.clone(),
        };
        let db = self.shared.db.clone();
        blocking(move || Ok(db.alter_table(&name, alteration)?)).await?;
        Ok(then)
    }

    /// A table that users may alter; none where it is missing and may be.
    fn alterable(&self, name: &str, if_exists: bool, notices: &mut Vec<String>) -> Result<Option<Arc<TableSchema>>> {
        if ops::is_system_table(name) {
            return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be altered")));
        }
        if self.shared.public.has_view(name) {
            return Err(Error::WrongKind(format!("\"{name}\" is not a table")));
        }
        match self.shared.db.catalog().table(name) {
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
        let mut notices = Vec::new();
        let mut tables = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if self.shared.public.has_view(&name) {
                return Err(Error::WrongKind(format!("\"{name}\" is not a table")));
            }
            match self.shared.db.catalog().table(&name) {
                Some(_) => tables.push(name),
                None if if_exists => notices.push(format!("relation \"{name}\" does not exist, skipping")),
                None => return Err(Error::UndefinedTable(format!("relation \"{name}\" does not exist"))),
            }
        }
        for name in tables {
            let db = self.shared.db.clone();
            blocking(move || Ok(db.truncate(&name)?)).await?;
        }
        self.warn_of_transaction(&mut notices, "TRUNCATE");
        Ok(Outcome::Done { tag: "TRUNCATE TABLE".into(), notices })
    }

    async fn drop_dependents(
        &self,
        what: &str,
        dependents: std::collections::BTreeSet<String>,
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

    pub(super) async fn create_view(&self, create: &ast::CreateView) -> Result<Outcome> {
        self.check_writable("CREATE VIEW")?;
        let (name, columns) = view::heading(create)?;
        let mut notices = Vec::new();
        let known = self.shared.public.user_views().contains_key(&name);
        if known && create.if_not_exists {
            notices.push(format!("relation \"{name}\" already exists, skipping"));
            return Ok(Outcome::Done { tag: "CREATE VIEW".into(), notices });
        }
        let taken = self.shared.public.has_view(&name) || self.shared.db.catalog().table(&name).is_some();
        if taken && !(known && create.or_replace) {
            return Err(Error::DuplicateTable(name));
        }
        definition::check_name(&name)?;
        let (table, made) = view::plan(&self.shared.state, create.query.clone(), &columns).await?;
        let below = view::dependents(&self.shared.public.user_views(), std::slice::from_ref(&name));
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
        Box::pin(self.connect().query(&sql)).await?;
        self.shared.public.add_user_view(&name, Arc::new(table), made);
        if known {
            // Those that read it were planned over what it was.
            Box::pin(view::load(&self.connect())).await?;
        }
        self.warn_of_transaction(&mut notices, "CREATE VIEW");
        Ok(Outcome::Done { tag: "CREATE VIEW".into(), notices })
    }

    /// Plans a stored view and puts it into the catalog.
    pub(crate) async fn register_view(&self, create: &ast::CreateView) -> Result<()> {
        let (name, columns) = view::heading(create)?;
        let (table, made) = view::plan(&self.shared.state, create.query.clone(), &columns).await?;
        self.shared.public.add_user_view(&name, Arc::new(table), made);
        Ok(())
    }

    pub(super) async fn drop_views(&self, names: &[ObjectName], if_exists: bool, cascade: bool) -> Result<Outcome> {
        self.check_writable("DROP VIEW")?;
        let mut notices = Vec::new();
        let mut views = Vec::new();
        for name in names {
            let name = definition::table_name(name)?;
            if self.shared.public.user_views().contains_key(&name) {
                views.push(name);
            } else if self.shared.public.has_view(&name) {
                return Err(Error::InvalidDefinition(format!("\"{name}\" belongs to juno and cannot be dropped")));
            } else if self.shared.db.catalog().table(&name).is_some() {
                return Err(Error::WrongKind(format!("\"{name}\" is not a view: use DROP TABLE")));
            } else if if_exists {
                notices.push(format!("view \"{name}\" does not exist, skipping"));
            } else {
                return Err(Error::UndefinedTable(format!("view \"{name}\" does not exist")));
            }
        }
        let mut dependents = view::dependents(&self.shared.public.user_views(), &views);
        dependents.retain(|name| !views.contains(name));
        self.drop_dependents(&format!("view {}", views.join(", ")), dependents, cascade, &mut notices).await?;
        self.forget_views(&views).await?;
        self.warn_of_transaction(&mut notices, "DROP VIEW");
        Ok(Outcome::Done { tag: "DROP VIEW".into(), notices })
    }

    async fn forget_views(&self, names: &[String]) -> Result<()> {
        let list: Vec<String> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        if !list.is_empty() {
            let sql = format!("DELETE FROM juno_views WHERE name IN ({})", list.join(", "));
            Box::pin(self.connect().query(&sql)).await?;
        }
        names.iter().for_each(|name| self.shared.public.remove_user_view(name));
        Ok(())
    }

    pub(super) fn warn_of_transaction(&self, notices: &mut Vec<String>, command: &str) {
        if self.transaction_status() == TransactionStatus::Open {
            notices.push(format!("{command} takes effect at once and is not undone by ROLLBACK"));
        }
    }
}
