//! What an error of a statement is called at the doors: its SQLSTATE, its HTTP status and its problem slug.
//!
//! **Invariant:** this is the only place that decides them, and it decides for every variant by name: a new one does not
//! compile until it has all three.

use axum::http::StatusCode;
use juno_sql::{Error, Refused};

/// The SQLSTATE that PostgreSQL gives this error (its documentation's appendix A).
pub fn sqlstate(error: &Error) -> &'static str {
    match error {
        Error::Syntax(_) => "42601",
        Error::UndefinedTable(_) => "42P01",
        Error::UndefinedColumn(_) => "42703",
        Error::UndefinedFunction(_) => "42883",
        Error::UndefinedType(_) => "42704",
        Error::AmbiguousColumn(_) => "42702",
        Error::DuplicateTable(_) => "42P07",
        Error::DuplicateColumn(_) => "42701",
        Error::Ungrouped(_) => "42803",
        Error::ManyRows | Error::ChangedTwice => "21000",
        Error::NoConstraint(_) => "42P10",
        Error::InvalidDefinition(_) => "42P16",
        Error::UniqueViolation { .. } => "23505",
        Error::NotNullViolation { .. } => "23502",
        Error::StringTooLong { .. } => "22001",
        Error::NumericOutOfRange(_) => "22003",
        Error::DatetimeOutOfRange(_) => "22008",
        Error::InvalidDatetime(_) => "22007",
        Error::InvalidText(_) => "22P02",
        Error::InvalidEncoding(_) => "22021",
        Error::TypeMismatch(_) => "42804",
        Error::DivisionByZero => "22012",
        Error::InvalidArgument(_) => "22023",
        Error::InvalidParameter(_) => "08P01",
        Error::Unsupported(_) => "0A000",
        Error::ReadOnlyTransaction(_) => "25006",
        Error::NoTransaction(_) => "25P01",
        Error::ActiveTransaction(_) => "25001",
        Error::UndefinedSavepoint(_) => "3B001",
        Error::UndefinedCursor(_) => "34000",
        Error::DuplicateCursor(_) => "42P03",
        Error::ForwardOnly => "55000",
        Error::Dependents(..) => "2BP01",
        Error::WrongKind(_) => "42809",
        Error::Serialization(_) => "40001",
        Error::Deadlock(_) => "40P01",
        Error::LockTimeout(_) => "55P03",
        Error::FailedTransaction => "25P02",
        Error::Cancelled | Error::Timeout | Error::CopyFailed(_) => "57014",
        Error::BadCopy(_) => "22P04",
        Error::Forbidden(_) => "42501",
        Error::Refused(refusal) => refused(refusal.kind).2,
        Error::DuplicateRole(_) | Error::DuplicateObject(_) => "42710",
        Error::InUse(_) => "55006",
        Error::File(_) => "58P01",
        Error::Row { cause, .. } => sqlstate(cause),
        Error::OutOfMemory(_) => "53200",
        Error::ReadOnly(_) => "25006",
        Error::DiskFull(_) => "53100",
        Error::Disk(_) => "58030",
        Error::ShuttingDown => "57P01",
        Error::Corrupt(_) => "XX001",
        Error::Internal(_) => "XX000",
    }
}

/// The HTTP status of the answer that carries this error.
pub fn http_status(error: &Error) -> StatusCode {
    match error {
        Error::Syntax(_) | Error::InvalidParameter(_) => StatusCode::BAD_REQUEST,
        Error::UndefinedTable(_) => StatusCode::NOT_FOUND,
        Error::UndefinedColumn(_)
        | Error::UndefinedFunction(_)
        | Error::UndefinedType(_)
        | Error::AmbiguousColumn(_)
        | Error::InvalidDefinition(_)
        | Error::NotNullViolation { .. }
        | Error::StringTooLong { .. }
        | Error::NumericOutOfRange(_)
        | Error::DatetimeOutOfRange(_)
        | Error::DuplicateColumn(_)
        | Error::Ungrouped(_)
        | Error::ManyRows
        | Error::ChangedTwice
        | Error::NoConstraint(_)
        | Error::InvalidDatetime(_)
        | Error::InvalidText(_)
        | Error::InvalidEncoding(_)
        | Error::TypeMismatch(_)
        | Error::DivisionByZero
        | Error::InvalidArgument(_)
        | Error::BadCopy(_)
        | Error::CopyFailed(_)
        | Error::File(_)
        | Error::Unsupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::DuplicateTable(_)
        | Error::UniqueViolation { .. }
        | Error::FailedTransaction
        | Error::ReadOnlyTransaction(_)
        | Error::NoTransaction(_)
        | Error::ActiveTransaction(_)
        | Error::UndefinedSavepoint(_)
        | Error::UndefinedCursor(_)
        | Error::DuplicateCursor(_)
        | Error::ForwardOnly
        | Error::Dependents(..)
        | Error::WrongKind(_)
        | Error::Serialization(_)
        | Error::Deadlock(_)
        | Error::LockTimeout(_) => StatusCode::CONFLICT,
        Error::Row { cause, .. } => http_status(cause),
        Error::Forbidden(_) => StatusCode::FORBIDDEN,
        Error::Refused(refusal) => refused(refusal.kind).1,
        Error::DuplicateRole(_) | Error::DuplicateObject(_) | Error::InUse(_) => StatusCode::CONFLICT,
        Error::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Error::Cancelled | Error::OutOfMemory(_) | Error::ReadOnly(_) | Error::ShuttingDown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::Disk(_) | Error::Corrupt(_) | Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The last segment of the problem's `type` (`/problems/<slug>`, RFC 9457).
pub fn slug(error: &Error) -> &'static str {
    match error {
        Error::Syntax(_) => "syntax-error",
        Error::UndefinedTable(_) => "undefined-table",
        Error::UndefinedColumn(_) => "undefined-column",
        Error::UndefinedFunction(_) => "undefined-function",
        Error::UndefinedType(_) => "undefined-type",
        Error::AmbiguousColumn(_) => "ambiguous-column",
        Error::DuplicateTable(_) => "duplicate-table",
        Error::DuplicateColumn(_) => "duplicate-column",
        Error::Ungrouped(_) => "ungrouped-column",
        Error::ManyRows => "more-than-one-row",
        Error::ChangedTwice => "changed-twice",
        Error::NoConstraint(_) => "no-such-constraint",
        Error::InvalidDefinition(_) => "invalid-definition",
        Error::UniqueViolation { .. } => "unique-violation",
        Error::NotNullViolation { .. } => "not-null-violation",
        Error::StringTooLong { .. } => "string-too-long",
        Error::NumericOutOfRange(_) => "numeric-out-of-range",
        Error::DatetimeOutOfRange(_) => "datetime-out-of-range",
        Error::InvalidDatetime(_) => "invalid-datetime",
        Error::InvalidText(_) => "invalid-text",
        Error::InvalidEncoding(_) => "invalid-text",
        Error::TypeMismatch(_) => "type-mismatch",
        Error::DivisionByZero => "division-by-zero",
        Error::InvalidArgument(_) => "invalid-argument",
        Error::InvalidParameter(_) => "invalid-parameter",
        Error::Unsupported(_) => "not-supported",
        Error::FailedTransaction => "failed-transaction",
        Error::BadCopy(_) => "bad-copy-format",
        Error::Row { cause, .. } => slug(cause),
        Error::CopyFailed(_) => "copy-failed",
        Error::Forbidden(_) => "forbidden",
        Error::Refused(refusal) => refused(refusal.kind).0,
        Error::DuplicateRole(_) => "duplicate-role",
        Error::DuplicateObject(_) => "duplicate-object",
        Error::InUse(_) => "in-use",
        Error::File(_) => "file-unusable",
        Error::ReadOnlyTransaction(_) => "read-only-transaction",
        Error::NoTransaction(_) => "no-transaction",
        Error::ActiveTransaction(_) => "active-transaction",
        Error::UndefinedSavepoint(_) => "undefined-savepoint",
        Error::UndefinedCursor(_) => "undefined-cursor",
        Error::DuplicateCursor(_) => "duplicate-cursor",
        Error::ForwardOnly => "forward-only",
        Error::Dependents(..) => "dependent-objects",
        Error::WrongKind(_) => "wrong-kind",
        Error::Serialization(_) => "serialization-failure",
        Error::Deadlock(_) => "deadlock",
        Error::LockTimeout(_) => "lock-timeout",
        Error::Cancelled => "query-cancelled",
        Error::Timeout => "statement-timeout",
        Error::OutOfMemory(_) => "out-of-memory",
        Error::ReadOnly(_) => "read-only",
        Error::DiskFull(_) => "disk-full",
        Error::Disk(_) => "disk-failed",
        Error::ShuttingDown => "shutting-down",
        Error::Corrupt(_) => "data-corrupted",
        Error::Internal(_) => "internal-error",
    }
}

/// Slug, status and SQLSTATE of a refused operation.
pub fn refused(kind: Refused) -> (&'static str, StatusCode, &'static str) {
    const LOCKED: StatusCode = StatusCode::LOCKED;
    const SENSELESS: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
    match kind {
        Refused::UnknownField => ("unknown-field", StatusCode::BAD_REQUEST, "22023"),
        Refused::MissingField => ("missing-field", StatusCode::BAD_REQUEST, "22023"),
        Refused::InvalidField => ("invalid-field", StatusCode::BAD_REQUEST, "22023"),
        Refused::InvalidValue => ("invalid-value", SENSELESS, "22023"),
        Refused::KeyRequired => ("idempotency-key-required", StatusCode::BAD_REQUEST, "22023"),
        Refused::KeyReused => ("idempotency-key-reused", SENSELESS, "22023"),
        Refused::InFlight => ("in-flight", StatusCode::CONFLICT, "55006"),
        Refused::Interrupted => ("interrupted", StatusCode::CONFLICT, "57P02"),
        Refused::ComponentDisabled => ("component-disabled", StatusCode::CONFLICT, "55000"),
        Refused::PhaseTooLow => ("phase-too-low", StatusCode::CONFLICT, "55000"),
        Refused::KillSwitch => ("kill-switch-engaged", LOCKED, "55000"),
        Refused::Frozen => ("maintenance-window", LOCKED, "55000"),
        Refused::CooldownActive => ("cooldown-active", StatusCode::CONFLICT, "55000"),
        Refused::CircuitOpen => ("circuit-open", StatusCode::CONFLICT, "55000"),
        Refused::Concurrent => ("concurrent-operation", StatusCode::CONFLICT, "55006"),
        Refused::AlreadyResolved => ("already-resolved", StatusCode::CONFLICT, "55000"),
        Refused::AlreadyContained => ("already-contained", StatusCode::CONFLICT, "55000"),
        Refused::AlreadyAtTarget => ("already-at-target", StatusCode::CONFLICT, "55000"),
        Refused::PlanExpired => ("plan-expired", StatusCode::CONFLICT, "55000"),
        Refused::LowConfidence => ("low-confidence", StatusCode::CONFLICT, "55000"),
        Refused::PolicyDenied => ("policy-denied", StatusCode::FORBIDDEN, "42501"),
        Refused::ProtectedTarget => ("protected-target", StatusCode::FORBIDDEN, "42501"),
        Refused::OwnRequest => ("own-request", StatusCode::FORBIDDEN, "42501"),
        Refused::ApprovalExpired => ("approval-expired", StatusCode::CONFLICT, "55000"),
        Refused::BudgetExhausted => ("budget-exhausted", StatusCode::TOO_MANY_REQUESTS, "53400"),
        Refused::TargetTimeout => ("target-timeout", StatusCode::GATEWAY_TIMEOUT, "57014"),
        Refused::UnknownTarget => ("unknown-target", SENSELESS, "42704"),
        Refused::InsufficientHistory => ("insufficient-history", SENSELESS, "22023"),
        Refused::InsufficientExperience => ("insufficient-experience", SENSELESS, "22023"),
        Refused::NoPropensities => ("no-propensities", SENSELESS, "22023"),
        Refused::LowOverlap => ("low-overlap", SENSELESS, "22023"),
        Refused::NoTelemetry => ("no-telemetry", SENSELESS, "22023"),
        Refused::NoModel => ("no-model", SENSELESS, "42704"),
        Refused::NotFound => ("not-found", StatusCode::NOT_FOUND, "42704"),
        Refused::Conflict => ("state-conflict", StatusCode::CONFLICT, "55000"),
        Refused::PreconditionRequired => ("precondition-required", StatusCode::PRECONDITION_REQUIRED, "55000"),
        Refused::PreconditionFailed => ("precondition-failed", StatusCode::PRECONDITION_FAILED, "40001"),
    }
}

/// True where the caller cannot mend it and an operator must look: these are logged as errors, once, at the door.
pub fn needs_operator(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_) | Error::Internal(_) | Error::ReadOnly(_) | Error::DiskFull(_) | Error::Disk(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraint_errors_carry_postgresql_codes_and_client_statuses() {
        let duplicate = Error::UniqueViolation { table: "t".into(), key: "(id)=(1)".into() };
        assert_eq!((sqlstate(&duplicate), http_status(&duplicate)), ("23505", StatusCode::CONFLICT));
        let null = Error::NotNullViolation { table: "t".into(), column: "c".into() };
        assert_eq!((sqlstate(&null), http_status(&null)), ("23502", StatusCode::UNPROCESSABLE_ENTITY));
        assert!(!needs_operator(&duplicate));
    }

    #[test]
    fn only_faults_of_the_server_are_server_errors_with_an_internal_code() {
        let internal = Error::Internal("x".into());
        assert_eq!((sqlstate(&internal), http_status(&internal).as_u16()), ("XX000", 500));
        assert!(needs_operator(&internal));
        assert_eq!(http_status(&Error::Syntax("x".into())).as_u16(), 400);
    }
}
