//! SQL cursors: DECLARE, FETCH, MOVE and CLOSE.
//!
//! **Invariant:** a cursor holds no more than one batch of its rows; it reads the snapshot of its DECLARE to the end, WITH HOLD also
//! after COMMIT. It scans forward only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{FetchDirection, Value, ValueWithSpan};
use futures::TryStreamExt;
use tokio::sync::Mutex;

use crate::{Error, Result};

/// Cursors that a session may have open.
const CURSORS_MAX: usize = 100;

/// The cursors of one session.
#[derive(Default)]
pub(crate) struct Cursors {
    open: HashMap<String, Cursor>,
}

/// How a FETCH or MOVE goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) cursor: String,
    /// None is all that is left.
    pub(crate) count: Option<usize>,
}

#[derive(Clone)]
struct Cursor {
    schema: SchemaRef,
    hold: bool,
    /// Whether the transaction that declared it is still open.
    fresh: bool,
    rows: Arc<Mutex<Rows>>,
}

/// The rows that are left.
struct Rows {
    stream: Option<SendableRecordBatchStream>,
    rest: Option<RecordBatch>,
}

impl Cursors {
    /// Opens a cursor over a stream.
    pub(crate) fn declare(&mut self, name: String, hold: bool, stream: SendableRecordBatchStream) -> Result<()> {
        if self.open.contains_key(&name) {
            return Err(Error::DuplicateCursor(name));
        }
        if self.open.len() == CURSORS_MAX {
            return Err(Error::OutOfMemory(format!("a session may have {CURSORS_MAX} cursors open: close some")));
        }
        let schema = stream.schema();
        let rows = Arc::new(Mutex::new(Rows { stream: Some(stream), rest: None }));
        self.open.insert(name, Cursor { schema, hold, fresh: true, rows });
        Ok(())
    }

    /// The columns of a cursor.
    pub(crate) fn schema(&self, name: &str) -> Result<SchemaRef> {
        self.cursor(name).map(|cursor| Arc::clone(&cursor.schema))
    }

    fn cursor(&self, name: &str) -> Result<&Cursor> {
        self.open.get(name).ok_or_else(|| Error::UndefinedCursor(name.to_owned()))
    }

    /// The next rows of a cursor, read as they are asked for.
    pub(crate) fn fetch(&self, fetch: &Fetch) -> Result<SendableRecordBatchStream> {
        let cursor = self.cursor(&fetch.cursor)?;
        let start = (Arc::clone(&cursor.rows), fetch.count);
        let batches = futures::stream::try_unfold(start, |(rows, left)| async move {
            let batch = rows.lock().await.next(left.unwrap_or(usize::MAX)).await?;
            Ok(batch.map(|batch| {
                let left = left.map(|left| left - batch.num_rows());
                (batch, (rows, left))
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&cursor.schema), Box::pin(batches))))
    }

    /// CLOSE.
    pub(crate) fn close(&mut self, name: &str) -> Result<()> {
        self.open.remove(name).map(drop).ok_or_else(|| Error::UndefinedCursor(name.to_owned()))
    }

    /// CLOSE ALL.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    /// The end of a transaction closes its cursors, but for those WITH HOLD where it was committed.
    pub(crate) fn end(&mut self, committed: bool) {
        self.open.retain(|_, cursor| cursor.hold && (committed || !cursor.fresh));
        self.open.values_mut().for_each(|cursor| cursor.fresh = false);
    }
}

impl Rows {
    /// At most so many rows; none at the end.
    async fn next(&mut self, most: usize) -> datafusion::error::Result<Option<RecordBatch>> {
        if most == 0 {
            return Ok(None);
        }
        while self.rest.is_none() {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.try_next().await {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => self.rest = Some(batch),
                Ok(None) => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    return Err(error);
                }
            }
        }
        let Some(batch) = self.rest.take() else { return Ok(None) };
        if batch.num_rows() > most {
            self.rest = Some(batch.slice(most, batch.num_rows() - most));
            return Ok(Some(batch.slice(0, most)));
        }
        Ok(Some(batch))
    }
}

/// How many rows a direction asks for; none is all.
///
/// # Errors
/// [`Error::ForwardOnly`] for whatever leads back.
pub(crate) fn count(direction: &FetchDirection) -> Result<Option<usize>> {
    let number = |value: &ValueWithSpan| match &value.value {
        Value::Number(text, _) => text.parse().map(Some).map_err(|_| Error::ForwardOnly),
        _ => Err(Error::ForwardOnly),
    };
    match direction {
        FetchDirection::Next => Ok(Some(1)),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(None),
        FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::Count { limit }
        | FetchDirection::Forward { limit: Some(limit) }
        | FetchDirection::Relative { limit } => number(limit),
        _ => Err(Error::ForwardOnly),
    }
}

/// `FETCH` or `MOVE` as a text of its own, in the forms that the parser does not know; whether it is a MOVE. None for others.
pub(crate) fn parse(sql: &str) -> Option<(Fetch, bool)> {
    let sql = sql.trim().trim_end_matches(';').trim_end();
    let mut words: Vec<&str> = sql.split_whitespace().collect();
    let moves = match words.first()?.to_lowercase().as_str() {
        "fetch" => false,
        "move" => true,
        _ => return None,
    };
    let name = words.pop().filter(|_| !words.is_empty())?;
    let cursor = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) if !quoted.contains('"') => quoted.to_owned(),
        _ if name.contains(['"', ';', '\'']) => return None,
        _ => name.to_lowercase(),
    };
    let mut direction: Vec<String> = words[1..].iter().map(|word| word.to_lowercase()).collect();
    if direction.last().is_some_and(|word| word == "from" || word == "in") {
        direction.pop();
    }
    let direction: Vec<&str> = direction.iter().map(String::as_str).collect();
    let count = match direction.as_slice() {
        [] | ["next"] | ["forward"] => Some(1),
        ["all"] | ["forward", "all"] => None,
        [number] | ["forward" | "relative", number] => Some(number.parse().ok()?),
        _ => return None,
    };
    Some((Fetch { cursor, count }, moves))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_and_move_are_read_in_all_forward_forms() {
        let parsed = |sql: &str| parse(sql).map(|(fetch, moves)| (fetch.cursor, fetch.count, moves));
        let own = |name: &str, count, moves| Some((name.to_owned(), count, moves));
        assert_eq!(parsed("FETCH c"), own("c", Some(1), false));
        assert_eq!(parsed("fetch from C;"), own("c", Some(1), false));
        assert_eq!(parsed("FETCH FORWARD 100 FROM \"My_c\""), own("My_c", Some(100), false));
        assert_eq!(parsed("FETCH ALL IN c"), own("c", None, false));
        assert_eq!(parsed("MOVE FORWARD ALL FROM c"), own("c", None, true));
        assert_eq!(parsed("MOVE 5 c"), own("c", Some(5), true));
        for other in ["FETCH", "FETCH BACKWARD 5 FROM c", "FETCH -1 FROM c", "FETCH 1 FROM a; SELECT 1", "SELECT 1"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
