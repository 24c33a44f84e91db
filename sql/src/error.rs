//! What can go wrong in SQL, by what the caller does next. `server/error.rs` gives each its SQLSTATE and HTTP status.
//!
//! **Invariant:** no SQLSTATE and no HTTP status stands here; `Display` never prints its source twice.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// An error that a statement or an ingest call ends with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not SQL that juno can parse.
    #[error("{0}")]
    Syntax(String),
    /// A table, view or relation that does not exist.
    #[error("{0}")]
    UndefinedTable(String),
    /// A column that does not exist.
    #[error("{0}")]
    UndefinedColumn(String),
    /// A function or procedure that does not exist, or not with these arguments.
    #[error("{0}")]
    UndefinedFunction(String),
    /// A type name that does not exist.
    #[error("{0}")]
    UndefinedType(String),
    /// A column name that more than one relation has.
    #[error("{0}")]
    AmbiguousColumn(String),
    /// A table of this name exists already.
    #[error("relation \"{0}\" already exists")]
    DuplicateTable(String),
    /// A column that a table is to have twice.
    #[error("column \"{0}\" specified more than once")]
    DuplicateColumn(String),
    /// A column beside aggregates that no GROUP BY names.
    #[error("column \"{0}\" must appear in the GROUP BY clause or be used in an aggregate function")]
    Ungrouped(String),
    /// More rows where one is meant.
    #[error("more than one row returned by a subquery used as an expression")]
    ManyRows,
    /// A row that ON CONFLICT DO UPDATE would change twice.
    #[error("ON CONFLICT DO UPDATE command cannot affect row a second time")]
    ChangedTwice,
    /// ON CONFLICT names what is no key.
    #[error("{0}")]
    NoConstraint(String),
    /// A table definition that cannot be.
    #[error("{0}")]
    InvalidDefinition(String),
    /// A row with this primary key exists.
    #[error("duplicate key value violates unique constraint \"{table}_pkey\": key {key} already exists")]
    UniqueViolation {
        /// The table.
        table: String,
        /// The key as `(columns)=(values)`.
        key: String,
    },
    /// A null where the column forbids it.
    #[error("null value in column \"{column}\" of relation \"{table}\" violates not-null constraint")]
    NotNullViolation {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A text longer than its column allows.
    #[error("value too long for type character varying({limit}) in column \"{column}\"")]
    StringTooLong {
        /// The column.
        column: String,
        /// Its limit in characters.
        limit: usize,
    },
    /// A number outside the range of its type.
    #[error("{0}")]
    NumericOutOfRange(String),
    /// A time outside the range of its type.
    #[error("{0}")]
    DatetimeOutOfRange(String),
    /// A text that is no date, time or interval.
    #[error("{0}")]
    InvalidDatetime(String),
    /// A text that is no value of the wanted type.
    #[error("{0}")]
    InvalidText(String),
    /// Bytes that are no UTF-8 text.
    #[error("invalid byte sequence for encoding \"UTF8\"{0}")]
    InvalidEncoding(&'static str),
    /// Types that do not fit each other.
    #[error("{0}")]
    TypeMismatch(String),
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// An argument outside what the function takes.
    #[error("{0}")]
    InvalidArgument(String),
    /// The wrong number or kind of statement parameters.
    #[error("{0}")]
    InvalidParameter(String),
    /// Something PostgreSQL has and juno does not.
    #[error("{0}")]
    Unsupported(String),
    /// A statement after an error inside a transaction block.
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    FailedTransaction,
    /// Input of a COPY that is not in its format.
    #[error("{0}")]
    BadCopy(String),
    /// A row of an input, and what is wrong with it.
    #[error("{place}: {cause}")]
    Row {
        /// Where it stands: table, line, column.
        place: String,
        /// What is wrong.
        cause: Box<Error>,
    },
    /// A file that the statement names cannot be read or written.
    #[error("{0}")]
    File(String),
    /// The client ended a COPY with an error of its own.
    #[error("COPY from stdin failed: {0}")]
    CopyFailed(String),
    /// The user's role does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// An operation that was not done, and why.
    #[error("{0}")]
    Refused(Box<crate::operation::Refusal>),
    /// A user of this name exists already, or the name is a role's.
    #[error("{0}")]
    DuplicateRole(String),
    /// A rollup of this name exists already.
    #[error("{0}")]
    DuplicateObject(String),
    /// Something that must stay as it is.
    #[error("{0}")]
    InUse(String),
    /// A write in a transaction that only reads.
    #[error("cannot execute {0} in a read-only transaction")]
    ReadOnlyTransaction(String),
    /// What only a transaction block has.
    #[error("{0}")]
    NoTransaction(String),
    /// What a transaction block cannot do, or not any more.
    #[error("{0}")]
    ActiveTransaction(String),
    /// A savepoint that does not exist.
    #[error("{0}")]
    UndefinedSavepoint(String),
    /// A cursor that does not exist.
    #[error("cursor \"{0}\" does not exist")]
    UndefinedCursor(String),
    /// A cursor of this name exists already.
    #[error("cursor \"{0}\" already exists")]
    DuplicateCursor(String),
    /// A cursor that is to go back.
    #[error("cursor can only scan forward: declare another one to begin anew")]
    ForwardOnly,
    /// A view where a table is meant, or the other way round.
    #[error("{0}")]
    WrongKind(String),
    /// What others depend on cannot be dropped without them.
    #[error("cannot drop {0} because other objects depend on it: view {1}; drop them first, or use CASCADE")]
    Dependents(String, String),
    /// Another transaction changed the same rows first.
    #[error("could not serialize access due to concurrent update of table \"{0}\"")]
    Serialization(String),
    /// Transactions that wait for each other.
    #[error("deadlock detected: another transaction holds table \"{0}\" and waits for this one")]
    Deadlock(String),
    /// A table's lock was not to be had within `lock_timeout`.
    #[error("canceling statement due to lock timeout on table \"{0}\"")]
    LockTimeout(String),
    /// The statement was cancelled by its client.
    #[error("canceling statement due to user request")]
    Cancelled,
    /// The statement ran longer than `statement_timeout`.
    #[error("canceling statement due to statement timeout")]
    Timeout,
    /// The query needed more memory than it may have.
    #[error("{0}")]
    OutOfMemory(String),
    /// The database takes no writes.
    #[error("the database is read-only since a write failed: {0}; it can be read; mend the disk and start juno again")]
    ReadOnly(String),
    /// There is no room on the disk; the statement left nothing behind.
    #[error("{0}")]
    DiskFull(String),
    /// The disk refused; the statement left nothing behind.
    #[error("{0}")]
    Disk(String),
    /// The database is shutting down.
    #[error("the database is shutting down")]
    ShuttingDown,
    /// Stored bytes are damaged.
    #[error("{0}")]
    Corrupt(String),
    /// Nothing the caller can mend.
    #[error("{0}")]
    Internal(String),
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<juno_engine::Error> for Error {
    fn from(error: juno_engine::Error) -> Self {
        use juno_engine::Error as Engine;
        if let Some(error) = of_the_disk(&error) {
            return error;
        }
        let text = error.to_string();
        match error {
            Engine::UnknownTable { .. } => Error::UndefinedTable(text),
            Engine::TableExists { table } => Error::DuplicateTable(table),
            Engine::UnknownColumn { .. } => Error::UndefinedColumn(text),
            Engine::ColumnType { .. } => Error::TypeMismatch(text),
            Engine::NotNull { table, column } => Error::NotNullViolation { table, column },
            Engine::Duplicate { table, key } => Error::UniqueViolation { table, key },
            Engine::Stale { table } => Error::Serialization(table),
            Engine::InvalidRow { .. } => Error::InvalidText(text),
            Engine::InvalidSchema { .. } => Error::InvalidDefinition(text),
            Engine::Closed => Error::ShuttingDown,
            _ => Error::Internal(with_source(&error)),
        }
    }
}

/// What is wrong with the disk or with what lies on it, where it is that.
fn of_the_disk(error: &juno_engine::Error) -> Option<Error> {
    use juno_engine::Error as Engine;
    Some(match error {
        Engine::ReadOnly { reason } => Error::ReadOnly(reason.clone()),
        Engine::DiskFull { .. } => Error::DiskFull(error.to_string()),
        Engine::Io { .. } => Error::Disk(with_source(error)),
        Engine::Corrupt { .. } => Error::Corrupt(error.to_string()),
        _ => return None,
    })
}

/// The message of an error and of what caused it, on one line.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_source(source)),
        None => error.to_string(),
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::DivideByZero => Error::DivisionByZero,
            ArrowError::ArithmeticOverflow(text) => Error::NumericOutOfRange(text),
            ArrowError::CastError(text) | ArrowError::ParseError(text) | ArrowError::InvalidArgumentError(text) => {
                cast_error(text)
            }
            ArrowError::ComputeError(text) => Error::InvalidArgument(text),
            ArrowError::ExternalError(source) => external(source),
            ArrowError::MemoryError(text) => Error::OutOfMemory(text),
            other => Error::Internal(other.to_string()),
        }
    }
}

/// A failed cast: out of range, or no value of the type at all.
fn cast_error(text: String) -> Error {
    let lower = text.to_lowercase();
    if let Some(error) = unreadable(&text, &lower) {
        return error;
    }
    let range = ["too large", "too small", "out of range", "overflow", "can't cast value", "cannot be casted"];
    if lower.contains("timestamp")
        && ["out of range", "overflow", "out of bounds"].iter().any(|word| lower.contains(word))
    {
        Error::DatetimeOutOfRange(text)
    } else if range.iter().any(|word| lower.contains(word)) {
        Error::NumericOutOfRange(text)
    } else {
        Error::InvalidText(text)
    }
}

/// Names of Arrow's types in its messages, and PostgreSQL's. Longer names stand before those that they hold.
const TYPE_NAMES: [(&str, &str); 14] = [
    ("Timestamp(µs, \"+00:00\")", "timestamp with time zone"),
    ("Timestamp(µs)", "timestamp without time zone"),
    ("Dictionary(Int32, Utf8)", "text"),
    ("Interval(MonthDayNano)", "interval"),
    ("LargeUtf8", "text"),
    ("Utf8View", "text"),
    ("Utf8", "text"),
    ("Int64", "bigint"),
    ("Int32", "integer"),
    ("Int16", "smallint"),
    ("Float64", "double precision"),
    ("Float32", "real"),
    ("Boolean", "boolean"),
    ("Date32", "date"),
];

fn postgres_types(text: &str) -> String {
    TYPE_NAMES.iter().fold(text.to_owned(), |text, (arrow, postgres)| text.replace(arrow, postgres))
}

/// A text that no value could be read from, in PostgreSQL's words. None where the message is of another kind.
fn unreadable(text: &str, lower: &str) -> Option<Error> {
    let quoted = |start: &str| text.split_once(start).and_then(|(_, rest)| Some(rest.rsplit_once('\'')?.0));
    let datetime = |name: &str, given: &str| {
        // Written like a time: then a field of it is out of range.
        let shaped = given.len() >= 10 && given.chars().all(|c| c.is_ascii_digit() || "-:. +TZ".contains(c));
        if shaped && name != "interval" {
            Error::DatetimeOutOfRange(format!("date/time field value out of range: \"{given}\""))
        } else {
            Error::InvalidDatetime(format!("invalid input syntax for type {name}: \"{given}\""))
        }
    };
    if let Some((given, _)) =
        text.split_once("rror parsing timestamp from '").and_then(|(_, rest)| rest.split_once("': "))
    {
        return Some(datetime("timestamp", given));
    }
    if lower.contains("syntax for type interval") || lower.contains("invalid interval") {
        return Some(Error::InvalidDatetime(text.to_owned()));
    }
    let given = quoted("annot cast string '")?;
    let name = text.rsplit_once("value of ")?.1.trim_end_matches(" type");
    let name = postgres_types(name);
    Some(match name.as_str() {
        "date" => datetime(&name, given),
        name if name.starts_with("timestamp") => datetime(name, given),
        "smallint" | "integer" | "bigint" if given.parse::<i128>().is_ok() => {
            Error::NumericOutOfRange(format!("value \"{given}\" is out of range for type {name}"))
        }
        _ => Error::InvalidText(format!("invalid input syntax for type {name}: \"{given}\"")),
    })
}

/// An error of ours that travelled through Arrow or DataFusion, or a foreign one.
fn external(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match source.downcast::<Error>() {
        Ok(own) => *own,
        Err(source) => match source.downcast::<juno_engine::Error>() {
            Ok(engine) => Error::from(*engine),
            Err(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => Error::from(*inner),
                Err(source) => Error::Internal(with_source(source.as_ref())),
            },
        },
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Self {
        Error::Syntax(syntax_text(&error.to_string()))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::ArrowError(inner, _) => Error::from(*inner),
            DataFusionError::SQL(inner, _) => Error::Syntax(syntax_text(&inner.to_string())),
            DataFusionError::NotImplemented(text) if text.contains("OuterReferenceColumn") => Error::Unsupported(
                "a sub-query that refers to the rows beside it other than by equality, as LATERAL does, is not supported: \
                 write a join"
                    .into(),
            ),
            DataFusionError::NotImplemented(text) => Error::Unsupported(text),
            DataFusionError::Plan(text) => plan_error(text),
            DataFusionError::Configuration(text) => Error::InvalidArgument(text),
            DataFusionError::SchemaError(inner, _) => schema_error(&inner),
            DataFusionError::Execution(text) => execution_error(text),
            DataFusionError::ResourcesExhausted(text) => Error::OutOfMemory(text),
            DataFusionError::External(source) => external(source),
            DataFusionError::Context(_, inner) => Error::from(*inner),
            DataFusionError::Diagnostic(_, inner) => Error::from(*inner),
            DataFusionError::Collection(mut all) if !all.is_empty() => Error::from(all.swap_remove(0)),
            DataFusionError::Shared(inner) => shared(&inner),
            other => Error::Internal(own_words(&other)),
        }
    }
}

/// DataFusion asks to file a bug with its own project; the reader is somebody else's user.
fn own_words(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let end =
        text.find("This issue was likely caused by a bug").or_else(|| text.find("\nThis was likely caused by a bug"));
    text[..end.unwrap_or(text.len())].trim_end_matches(['.', '\n', ' ']).to_owned()
}

/// An error that several partitions share: it cannot be taken apart, so what it says decides.
fn shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::DivideByZero) => Error::DivisionByZero,
        DataFusionError::ArrowError(inner, _) => match &**inner {
            ArrowError::CastError(text) | ArrowError::ParseError(text) => cast_error(text.clone()),
            ArrowError::ExternalError(source) => shared_source(source.as_ref()),
            other => Error::Internal(other.to_string()),
        },
        DataFusionError::Shared(inner) => shared(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => shared(inner),
        DataFusionError::External(source) => shared_source(source.as_ref()),
        DataFusionError::ResourcesExhausted(text) => Error::OutOfMemory(text.clone()),
        DataFusionError::Execution(text) => execution_error(text.clone()),
        DataFusionError::Plan(text) => plan_error(text.clone()),
        other => Error::Internal(other.strip_backtrace()),
    }
}

fn shared_source(source: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    match (source.downcast_ref::<Error>(), source.downcast_ref::<DataFusionError>()) {
        (Some(Error::ManyRows), _) => Error::ManyRows,
        (Some(Error::NumericOutOfRange(text)), _) => Error::NumericOutOfRange(text.clone()),
        (_, Some(inner)) => shared(inner),
        _ => source.downcast_ref().and_then(of_the_disk).unwrap_or_else(|| Error::Internal(source.to_string())),
    }
}

fn syntax_text(text: &str) -> String {
    let text = text.trim_start_matches("sql parser error: ");
    format!("syntax error: {text}")
}

fn plan_error(text: String) -> Error {
    let lower = text.to_lowercase();
    let between = |start: &str, end: char| {
        text.find(start)
            .and_then(|at| text[at + start.len()..].split(end).next())
            .map(str::to_owned)
            .unwrap_or_default()
    };
    if lower.contains("table '") && lower.contains("not found") || lower.contains("table not found") {
        let full = between("table '", '\'');
        let name = full.trim_start_matches("juno.").trim_start_matches("public.");
        Error::UndefinedTable(format!("relation \"{name}\" does not exist"))
    } else if lower.starts_with("invalid function") {
        let name = between("'", '\'');
        Error::UndefinedFunction(format!("function {name} does not exist"))
    } else if lower.contains("no function matches") || lower.contains("failed to coerce arguments") {
        Error::UndefinedFunction(unmatched(text))
    } else if lower.contains("must appear in the group by clause") {
        Error::Ungrouped(between("column \"", '"'))
    } else if lower.contains("unsupported sql type") {
        Error::UndefinedType(text)
    } else if lower.contains("placeholder") || lower.contains("parameter") {
        Error::InvalidParameter(text)
    } else if lower.contains("cannot coerce") || lower.contains("cannot infer common") || lower.contains("cannot cast")
    {
        Error::TypeMismatch(text)
    } else if lower.contains("not supported") || lower.contains("unsupported") {
        Error::Unsupported(text)
    } else {
        Error::Syntax(text)
    }
}

/// A call that no signature fits: the call as it was written, and what there is.
fn unmatched(text: String) -> String {
    let call = text.split_once("argument types '").and_then(|(_, rest)| rest.split_once('\''));
    let Some((call, rest)) = call else { return text };
    let candidates: Vec<&str> = rest.lines().skip(1).map(str::trim).filter(|line| line.contains('(')).collect();
    let there = if candidates.is_empty() { String::new() } else { format!("; there is {}", candidates.join(" and ")) };
    format!("function {} does not exist{}", postgres_types(call), postgres_types(&there))
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, .. } => {
            let name = match &field.relation {
                Some(relation) => format!("{relation}.{}", field.name),
                None => format!("\"{}\"", field.name),
            };
            Error::UndefinedColumn(format!("column {name} does not exist"))
        }
        SchemaError::AmbiguousReference { field } => {
            Error::AmbiguousColumn(format!("column reference \"{}\" is ambiguous", field.name))
        }
        other => Error::InvalidDefinition(other.to_string()),
    }
}

fn execution_error(text: String) -> Error {
    let lower = text.to_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        Error::DivisionByZero
    } else if lower.contains("overflow") {
        Error::NumericOutOfRange(text)
    } else if lower.contains("returned more than one row") {
        Error::ManyRows
    } else if lower.contains("error parsing") || lower.contains("cannot cast") {
        cast_error(text)
    } else {
        Error::InvalidArgument(text)
    }
}
