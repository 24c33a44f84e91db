//! A session's transaction: writes wait here until COMMIT makes them durable together.
//!
//! **Invariant:** holds writes, never makes them; a table written here is not read before COMMIT, since a read would not see the
//! writes.

use std::collections::BTreeSet;

use juno_engine::Write;

use crate::{Error, Result};

/// The most that one transaction may hold before COMMIT, in bytes.
const TRANSACTION_BYTES_MAX: usize = 256 << 20;

/// Where a session stands in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that failed.
    Failed,
}

/// The transaction of one session.
#[derive(Debug, Default)]
pub(crate) enum Transaction {
    #[default]
    Idle,
    Open {
        writes: Vec<Write>,
        bytes: usize,
    },
    Failed,
}

impl Transaction {
    pub(crate) fn status(&self) -> TransactionStatus {
        match self {
            Transaction::Idle => TransactionStatus::Idle,
            Transaction::Open { .. } => TransactionStatus::Open,
            Transaction::Failed => TransactionStatus::Failed,
        }
    }

    /// Starts a block; whether there was none.
    pub(crate) fn begin(&mut self) -> bool {
        let idle = matches!(self, Transaction::Idle);
        if idle {
            *self = Transaction::Open { writes: Vec::new(), bytes: 0 };
        }
        idle
    }

    /// An error ends an open block's hopes; what waited is forgotten.
    pub(crate) fn fail(&mut self) {
        if matches!(self, Transaction::Open { .. }) {
            *self = Transaction::Failed;
        }
    }

    /// Ends the block and gives what waited, or none where the block had failed or there was none.
    pub(crate) fn end(&mut self) -> Option<Vec<Write>> {
        match std::mem::take(self) {
            Transaction::Open { writes, .. } => Some(writes),
            Transaction::Idle | Transaction::Failed => None,
        }
    }

    /// Takes writes to wait for COMMIT; gives them back where there is no block.
    pub(crate) fn hold(&mut self, more: Vec<Write>) -> Result<Option<Vec<Write>>> {
        let Transaction::Open { writes, bytes } = self else { return Ok(Some(more)) };
        let added: usize = more
            .iter()
            .flat_map(|write| write.rows.iter().chain(&write.deletes))
            .map(|rows| rows.get_array_memory_size())
            .sum();
        if *bytes + added > TRANSACTION_BYTES_MAX {
            let most = TRANSACTION_BYTES_MAX >> 20;
            return Err(Error::OutOfMemory(format!(
                "a transaction may hold {most} MiB of changes: commit in smaller steps"
            )));
        }
        *bytes += added;
        writes.extend(more);
        Ok(None)
    }

    /// Refuses a read of what this transaction wrote.
    pub(crate) fn check_read(&self, tables: &BTreeSet<String>) -> Result<()> {
        let Transaction::Open { writes, .. } = self else { return Ok(()) };
        match writes.iter().find(|write| tables.contains(&write.table)) {
            Some(write) => Err(Error::UncommittedRead(write.table.clone())),
            None => Ok(()),
        }
    }
}
