//! Why bytes cannot become rows.
//!
//! **Invariant:** a refusal means that nothing of the body was stored.

use crate::http::problem::Problem;

/// What is wrong with an upload or a file, by what its sender does next.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The bytes are not whole, or not of their format: send them again.
    #[error("{0}")]
    Unreadable(String),
    /// The rows are not telemetry: change them.
    #[error("{0}")]
    Unstorable(String),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let slug = match refusal {
            Refusal::Unreadable(_) => "unreadable-body",
            Refusal::Unstorable(_) => "unstorable-rows",
        };
        Problem::new(slug, refusal.to_string())
    }
}
