//! Errors and notices as the client is shown them.
//!
//! **Invariant:** codes come from `crate::error`; here they only get their fields.

use juno_sql::Error;
use pgwire::error::ErrorInfo;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::error::sqlstate;

/// An error as the wire carries it: PostgreSQL's fields, ready to be sent.
#[derive(Debug)]
pub(super) struct Report {
    code: &'static str,
    info: Box<ErrorInfo>,
}

impl Report {
    /// The error of a statement; `sql` is its text, where there is one that a position can point into.
    pub(super) fn of(error: &Error, sql: Option<&str>) -> Report {
        if let Error::Row { place, cause } = error {
            let mut report = Report::of(cause, sql);
            report.info.where_context = Some(place.clone());
            return report;
        }
        let message = error.to_string();
        let mut report = Report::new("ERROR", sqlstate(error), message.clone());
        if let Some((message, line, column)) = located(&message) {
            report.info.message = message.to_owned();
            report.info.position = sql.and_then(|sql| position(sql, line, column)).map(|at| at.to_string());
        }
        report.info.hint = hint(error).map(str::to_owned);
        match error {
            Error::UniqueViolation { table, key } => {
                report.info.message = format!("duplicate key value violates unique constraint \"{table}_pkey\"");
                report.info.detail = Some(format!("Key {key} already exists."));
                report.info.constraint = Some(format!("{table}_pkey"));
                report.info.table = Some(table.clone());
            }
            Error::NotNullViolation { table, column } => {
                report.info.table = Some(table.clone());
                report.info.column = Some(column.clone());
            }
            Error::StringTooLong { column, .. } => report.info.column = Some(column.clone()),
            _ => {}
        }
        report
    }

    /// An error of the protocol itself, after which the connection goes on.
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Report {
        Report::new("ERROR", code, message.into())
    }

    /// An error that ends the connection.
    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Report {
        Report::new("FATAL", code, message.into())
    }

    fn new(severity: &str, code: &'static str, message: String) -> Report {
        let mut info = ErrorInfo::new(severity.to_owned(), code.to_owned(), message);
        info.severity_nonlocalized = Some(severity.to_owned());
        Report { code, info: Box::new(info) }
    }

    /// The same with a hint.
    pub(super) fn with_hint(mut self, hint: &str) -> Report {
        self.info.hint = Some(hint.to_owned());
        self
    }

    /// Its SQLSTATE.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl From<Report> for ErrorResponse {
    fn from(report: Report) -> ErrorResponse {
        (*report.info).into()
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Report {
        Report::of(&error, None)
    }
}

/// The message of a notice.
pub(super) fn notice(text: &str) -> NoticeResponse {
    (*Report::new("NOTICE", "00000", text.to_owned()).info).into()
}

fn hint(error: &Error) -> Option<&'static str> {
    match error {
        Error::UndefinedFunction(_) => {
            Some("No function matches the given name and argument types. You might need to add explicit type casts.")
        }
        Error::FailedTransaction => Some("End the transaction block with ROLLBACK."),
        Error::ReadOnly(_) => Some("Look at the server's log, mend the cause and restart the server."),
        Error::DiskFull(_) => Some("Free space on the disk of the data directory; the server needs no restart."),
        _ => None,
    }
}

/// Takes the place off a parser's message: `…, found: x at Line: 1, Column: 8`.
fn located(message: &str) -> Option<(&str, usize, usize)> {
    let (text, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((text, line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// The position of a line and column (both from 1) in characters from 1, as the protocol counts.
fn position(sql: &str, line: usize, column: usize) -> Option<usize> {
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(|line| line.chars().count()).sum();
    let at = before + column;
    (column > 0 && at <= sql.chars().count() + 1).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(report: Report, name: u8) -> Option<String> {
        let response = ErrorResponse::from(report);
        response.fields.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    #[test]
    fn a_syntax_error_points_at_the_character() {
        let error = Error::Syntax("Expected: an expression, found: FROM at Line: 2, Column: 4".to_owned());
        let sql = "SELECT\n  ä FROM";
        assert_eq!(field(Report::of(&error, Some(sql)), b'P').as_deref(), Some("11"));
        assert_eq!(field(Report::of(&error, Some(sql)), b'M').as_deref(), Some("Expected: an expression, found: FROM"));
        assert_eq!(field(Report::of(&error, None), b'P'), None);
        assert_eq!(field(Report::of(&error, Some("x")), b'P'), None);
    }

    #[test]
    fn a_constraint_error_names_table_and_constraint() {
        let error = Error::UniqueViolation { table: "t".to_owned(), key: "(id)=(1)".to_owned() };
        assert_eq!(field(Report::of(&error, None), b'n').as_deref(), Some("t_pkey"));
        assert_eq!(field(Report::of(&error, None), b'D').as_deref(), Some("Key (id)=(1) already exists."));
        assert_eq!(field(Report::of(&error, None), b'C').as_deref(), Some("23505"));
    }
}
