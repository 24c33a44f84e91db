//! Why an operation was not done: what the caller, a setting, a guard or the state of things says against it.
//!
//! **Invariant:** a refused operation did nothing; HTTP statuses and SQLSTATEs are decided in the server.

use std::fmt;

use super::Quota;

/// The kinds of refusal, by what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// An argument that the operation does not have.
    UnknownField,
    /// An argument that is missing.
    MissingField,
    /// An argument of the wrong JSON type.
    InvalidField,
    /// An argument of the right type that makes no sense.
    InvalidValue,
    /// It acts on other systems and was given no idempotency key.
    KeyRequired,
    /// The idempotency key was used with other arguments.
    KeyReused,
    /// The first request with this idempotency key still runs.
    InFlight,
    /// The server ended while the first request with this key ran.
    Interrupted,
    /// The component is switched off.
    ComponentDisabled,
    /// The server runs at a phase below 4.
    PhaseTooLow,
    /// The kill switch is engaged.
    KillSwitch,
    /// A maintenance window freezes what it would act on.
    Frozen,
    /// Too soon after the last one.
    CooldownActive,
    /// It failed too often lately.
    CircuitOpen,
    /// Another one acts on the same target.
    Concurrent,
    /// The subject is resolved already.
    AlreadyResolved,
    /// The threat is contained already.
    AlreadyContained,
    /// The target is where it should be.
    AlreadyAtTarget,
    /// The plan is too old.
    PlanExpired,
    /// The forecast is not sure enough.
    LowConfidence,
    /// Guard rails deny it.
    PolicyDenied,
    /// The target may never be acted on.
    ProtectedTarget,
    /// Who asked cannot approve.
    OwnRequest,
    /// Nobody approved it in time.
    ApprovalExpired,
    /// All actions of the budget are used.
    BudgetExhausted,
    /// The target did not answer in time.
    TargetTimeout,
    /// No actuator knows the target.
    UnknownTarget,
    /// Too few points to forecast from.
    InsufficientHistory,
    /// Too few decisions to learn from.
    InsufficientExperience,
    /// Decisions were logged without their probabilities.
    NoPropensities,
    /// The logged decisions say too little about the policy.
    LowOverlap,
    /// There are no rows to look at.
    NoTelemetry,
    /// There is no model that could judge.
    NoModel,
    /// The subject is not there.
    NotFound,
    /// The subject is in another state.
    Conflict,
    /// It takes an If-Match.
    PreconditionRequired,
    /// What is stored is not what If-Match says.
    PreconditionFailed,
}

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: Refused,
    /// What is wrong and what to do.
    pub detail: String,
    /// Arguments at fault: a JSON pointer each, and what is wrong with it.
    pub faults: Vec<(String, String)>,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u64>,
    /// The quota of which nothing is left, where that is why.
    pub quota: Option<Box<Quota>>,
}

impl Refusal {
    /// A refusal that is about no single argument.
    pub fn new(kind: Refused, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new(), retry_after_s: None, quota: None }
    }

    /// Names an argument at fault by its JSON pointer.
    #[must_use]
    pub fn at(mut self, pointer: &str) -> Self {
        self.faults.push((pointer.to_owned(), self.detail.clone()));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Names the quota of which nothing is left; to try again makes sense when some of it is back.
    #[must_use]
    pub fn out_of(mut self, quota: Quota) -> Self {
        self.retry_after_s = quota.reset_s.or(self.retry_after_s);
        self.quota = Some(Box::new(quota));
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<Refusal> for crate::Error {
    fn from(refusal: Refusal) -> Self {
        crate::Error::Refused(Box::new(refusal))
    }
}
