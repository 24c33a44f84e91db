//! Why learning or judging was refused, by what the caller does next.
//!
//! **Invariant:** no status and no SQLSTATE stands here; the slug is that of the problem page.

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A parameter or a value out of its range: the user's to correct.
    #[error("{0}")]
    Parameter(String),
    /// Fewer decisions than the work needs.
    #[error("{0}")]
    InsufficientExperience(String),
    /// Logged decisions without the probability that they were taken with.
    #[error("{0}")]
    NoPropensities(String),
    /// The logged decisions say too little about what this policy would do.
    #[error("{0}")]
    LowOverlap(String),
    /// A stored policy that is damaged, of another version or of other features.
    #[error("{0}")]
    Artefact(String),
    /// Nobody waits for the work any more.
    #[error("the work was stopped")]
    Stopped,
}

impl Refusal {
    /// The name of its problem.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Parameter(_) => "invalid-parameter",
            Self::InsufficientExperience(_) => "insufficient-experience",
            Self::NoPropensities(_) => "no-propensities",
            Self::LowOverlap(_) => "low-overlap",
            Self::Artefact(_) => "invalid-artefact",
            Self::Stopped => "stopped",
        }
    }
}

impl From<juno_kernels::Error> for Refusal {
    fn from(error: juno_kernels::Error) -> Self {
        match error {
            juno_kernels::Error::Stopped => Self::Stopped,
            juno_kernels::Error::Artefact(text) => Self::Artefact(text),
            other => Self::Parameter(other.to_string()),
        }
    }
}

/// What every fallible function of this folder returns.
pub type Result<T> = std::result::Result<T, Refusal>;
