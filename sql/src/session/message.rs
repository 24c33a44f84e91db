//! The statements of one message, and what plans them.
//!
//! **Invariant:** several statements are one transaction unless the client opened a block; an error in it undoes all of them.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use super::{Session, drain};
use crate::catalog::PublicSchema;
use crate::state::Planner;
use crate::statement::{Outcome, Prepared, Statement};
use crate::transaction::Draft;
use crate::{Error, Result};

impl Session {
    /// Runs every statement of a text, one after the other; the outcome of the last. Rows of the others are read and dropped.
    /// Several statements are one transaction unless they open a block themselves.
    ///
    /// # Errors
    /// The first error; statements after it are not run, and those before it are undone.
    pub async fn query(&self, sql: &str) -> Result<Outcome> {
        let statements = self.parse(sql)?;
        let ran = self.one_by_one(statements).await;
        if ran.is_err() && self.transaction.lock().is_implicit() {
            self.fail_transaction();
        }
        ran
    }

    /// Runs a statement as a transaction of its own.
    pub(super) async fn alone(&self, prepared: &Prepared) -> Result<Outcome> {
        self.begin_implicit();
        let done = self.execute(prepared, Vec::new()).await;
        match &done {
            Ok(_) => self.end_implicit().await?,
            Err(_) => self.fail_transaction(),
        }
        done
    }

    /// Runs one statement in whatever transaction there is.
    pub(crate) async fn step(&self, sql: &str) -> Result<Outcome> {
        let statement = self.parse(sql)?.pop().ok_or_else(|| Error::Internal("there is no statement".into()))?;
        let prepared = self.prepare(statement, &[]).await?;
        self.execute(&prepared, Vec::new()).await
    }

    async fn one_by_one(&self, statements: Vec<Statement>) -> Result<Outcome> {
        let mut last = Outcome::Empty;
        let several = statements.len() > 1;
        for statement in statements {
            if let Outcome::Rows { stream, .. } = last {
                drain(stream).await?;
            }
            if several {
                self.begin_implicit();
            }
            let prepared = self.prepare(statement, &[]).await?;
            last = self.execute(&prepared, Vec::new()).await?;
        }
        self.end_implicit().await?;
        Ok(last)
    }

    /// Whether the statements of a message, or those before a Sync, are forming a transaction.
    pub fn is_implicit(&self) -> bool {
        self.transaction.lock().is_implicit()
    }

    /// Begins the transaction that the statements of one message form, unless there is one.
    pub fn begin_implicit(&self) {
        let modes = self.settings.lock().modes();
        self.transaction.lock().begin_implicit(modes);
    }

    /// Commits the transaction that the statements of one message formed, if there is one. An error in it has ended it.
    ///
    /// # Errors
    /// As COMMIT.
    pub async fn end_implicit(&self) -> Result<()> {
        let ended = {
            let mut transaction = self.transaction.lock();
            if transaction.is_implicit() { transaction.end() } else { None }
        };
        match ended {
            Some(ended) => {
                let committed = self.commit_ended(ended).await;
                self.cursors.lock().end(committed.is_ok());
                committed
            }
            None => Ok(()),
        }
    }

    /// The rows of a text's last statement, all in memory; none where it returns none.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        match self.query(sql).await? {
            Outcome::Rows { stream, .. } => Ok(stream.try_collect().await?),
            Outcome::Done { .. } | Outcome::Empty => Ok(Vec::new()),
            Outcome::CopyIn(_) | Outcome::CopyOut { .. } => {
                Err(Error::Unsupported("COPY needs a client that sends or takes its rows".into()))
            }
        }
    }

    /// What plans statements: over the tables as they are, or as the transaction has made them.
    pub(super) fn planner(&self) -> Result<Arc<Planner>> {
        let Some(draft) = self.draft() else { return Ok(Arc::clone(&self.shared.planner)) };
        draft.planner(|public| {
            let runtime = Arc::clone(self.shared.planner.state.runtime_env());
            Planner::new(&self.shared.device, runtime, public)
        })
    }

    /// The tables and views as they are, or as the transaction has made them.
    pub(super) fn public(&self) -> Arc<PublicSchema> {
        self.draft().map_or_else(|| Arc::clone(&self.shared.planner.public), |draft| Arc::clone(&draft.public))
    }

    /// What the transaction has made of tables and views, with what others committed meanwhile.
    fn draft(&self) -> Option<Arc<Draft>> {
        let mut transaction = self.transaction.lock();
        let draft = transaction.draft()?;
        draft.public.see(transaction.view(&self.shared.db).whole.catalog());
        Some(draft)
    }
}
