//! The `public` schema: the engine's tables and the views that ship with juno, always as they are now; or as a transaction that
//! changes them sees them.
//!
//! **Invariant:** nothing is cached here that DDL could make stale.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use parking_lot::RwLock;

use juno_engine::{Catalog, Db};

use crate::model::Models;
use crate::table::Table;
use crate::view::{View, Views};

/// The name of the one database.
pub(crate) const DATABASE: &str = "juno";
/// The schema that tables live in.
pub(crate) const SCHEMA: &str = "public";
/// The schema that describes tables to PostgreSQL's clients.
pub(crate) const PG_CATALOG: &str = "pg_catalog";

/// Before a table's name it means the table with juno's own columns shown, for changes.
pub(crate) const WHOLE_PREFIX: &str = "_juno_whole_";

/// Tables of the engine and views, by name.
pub(crate) struct PublicSchema {
    db: Db,
    /// A state without tables, for planning DEFAULT expressions.
    defaults: SessionState,
    /// The models that functions score with.
    models: Arc<Models>,
    /// What a transaction sees; none where it is what is committed.
    seen: Option<RwLock<Arc<Catalog>>>,
    views: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
    /// Of those, the ones that users made.
    user_views: RwLock<Views>,
}

/// The views of one moment, to go back to.
#[derive(Clone)]
pub(crate) struct ViewsThen {
    views: BTreeMap<String, Arc<dyn TableProvider>>,
    user_views: Views,
}

impl std::fmt::Debug for PublicSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicSchema").field("views", &self.views.read().keys()).finish_non_exhaustive()
    }
}

impl PublicSchema {
    pub(crate) fn new(db: Db, defaults: SessionState) -> Self {
        PublicSchema {
            db,
            defaults,
            models: Arc::default(),
            seen: None,
            views: RwLock::default(),
            user_views: RwLock::default(),
        }
    }

    /// The same for a transaction of its own: its views change here alone, its tables are those of [`Self::see`].
    pub(crate) fn branch(&self) -> Self {
        let then = self.views_now();
        PublicSchema {
            db: self.db.clone(),
            defaults: self.defaults.clone(),
            models: Arc::clone(&self.models),
            seen: Some(RwLock::new(self.catalog())),
            views: RwLock::new(then.views),
            user_views: RwLock::new(then.user_views),
        }
    }

    /// Shows other tables, where it is a branch.
    pub(crate) fn see(&self, catalog: &Arc<Catalog>) {
        if let Some(seen) = &self.seen {
            *seen.write() = Arc::clone(catalog);
        }
    }

    /// All tables.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        match &self.seen {
            Some(seen) => Arc::clone(&seen.read()),
            None => self.db.catalog(),
        }
    }

    /// The views as they are now.
    pub(crate) fn views_now(&self) -> ViewsThen {
        ViewsThen { views: self.views.read().clone(), user_views: self.user_views() }
    }

    /// Goes back to the views of a moment.
    pub(crate) fn restore_views(&self, then: &ViewsThen) {
        *self.views.write() = then.views.clone();
        *self.user_views.write() = then.user_views.clone();
    }

    /// The engine that the tables come from.
    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// The models that functions score with.
    pub(crate) fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// Adds a view; the name must be free.
    pub(crate) fn add_view(&self, name: &str, view: Arc<dyn TableProvider>) {
        self.views.write().insert(name.to_owned(), view);
    }

    /// The views by name.
    pub(crate) fn views(&self) -> Vec<(String, Arc<dyn TableProvider>)> {
        self.views.read().iter().map(|(name, view)| (name.clone(), Arc::clone(view))).collect()
    }

    /// Adds a view that a user made, or replaces it.
    pub(crate) fn add_user_view(&self, name: &str, table: Arc<dyn TableProvider>, view: View) {
        self.user_views.write().insert(name.to_owned(), view);
        self.add_view(name, table);
    }

    /// Forgets a view that a user made.
    pub(crate) fn remove_user_view(&self, name: &str) {
        if self.user_views.write().remove(name).is_some() {
            self.views.write().remove(name);
        }
    }

    /// The views that users made.
    pub(crate) fn user_views(&self) -> Views {
        self.user_views.read().clone()
    }

    /// Whether a view has this name.
    pub(crate) fn has_view(&self, name: &str) -> bool {
        self.views.read().contains_key(name)
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        let catalog = self.catalog();
        catalog.tables.keys().cloned().chain(self.views.read().keys().cloned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = self.views.read().get(name) {
            return Ok(Some(Arc::clone(view)));
        }
        let (name, whole) = match name.strip_prefix(WHOLE_PREFIX) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let Some(schema) = self.catalog().table(name).cloned() else { return Ok(None) };
        let table = Table::new(self.db.clone(), schema, &self.defaults)?;
        Ok(Some(Arc::new(if whole { table.with_hidden() } else { table })))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.has_view(name) || self.catalog().table(name).is_some()
    }
}
