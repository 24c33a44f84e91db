//! Judgement that takes long, on a thread of its own.
//!
//! **Invariant:** it ends soon after nobody waits for it any more, and after its limit; what it gives never depends on either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::policy::refusal::{self, Refusal as Judged};
use crate::operation::{Refusal, Refused};
use crate::session::{Invocation, blocking};
use crate::{Error, Result};

/// Tells the work that who waited for it is gone.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs it; it is given a function that says whether it is still wanted.
pub(crate) async fn work<T: Send + 'static>(
    invocation: &Invocation,
    limit_s: Option<u64>,
    job: impl FnOnce(&dyn Fn() -> bool) -> refusal::Result<T> + Send + 'static,
) -> Result<T> {
    let gone = Arc::new(AtomicBool::new(false));
    let _waiting = Waiting(Arc::clone(&gone));
    let db = invocation.own.db().clone();
    let until_us =
        limit_s.map(|limit_s| db.system().clock().monotonic_us().saturating_add(limit_s.saturating_mul(1_000_000)));
    blocking(move || {
        let late = || until_us.is_some_and(|until_us| db.system().clock().monotonic_us() > until_us);
        let wanted = || !gone.load(Ordering::Relaxed) && !late();
        let done = job(&wanted);
        match (done, limit_s) {
            (Err(Judged::Stopped), Some(limit_s)) if late() => {
                let text = format!("it was not done within {limit_s} s: allow more time or ask for fewer steps");
                Err(Refusal::new(Refused::BudgetExhausted, text).into())
            }
            (done, _) => done.map_err(refused),
        }
    })
    .await
}

/// What judgement refused, as the answer to a request.
pub(crate) fn refused(refusal: Judged) -> Error {
    let kind = match &refusal {
        Judged::Parameter(_) => Refused::InvalidValue,
        Judged::InsufficientExperience(_) => Refused::InsufficientExperience,
        Judged::NoPropensities(_) => Refused::NoPropensities,
        Judged::LowOverlap(_) => Refused::LowOverlap,
        Judged::Artefact(text) => return Error::Corrupt(text.clone()),
        Judged::Stopped => return Error::Cancelled,
    };
    Refusal::new(kind, refusal.to_string()).into()
}
