//! Predictive scaling: what is judged is in [`policy`], what is read in `views.sql`.
//!
//! **Invariant:** each procedure is a file of its own; judgement knows no clock, no table and no process.

pub(crate) mod autoscale;
pub(crate) mod autoscaler;
pub(crate) mod demand;
pub(crate) mod execute;
pub(crate) mod forecast;
mod limits;
pub(crate) mod plan;
pub mod policy;
pub(crate) mod verify;

use serde::Serialize;
use serde_json::Value;

use crate::session::rfc3339;
use crate::{Error, Result};

/// A value of the judgement as JSON, with its time in seconds under `NAME_s` as a time under `NAME`.
fn timed(value: &impl Serialize, name: &str) -> Result<Value> {
    let text = |error: serde_json::Error| Error::Internal(error.to_string());
    let mut value = serde_json::to_value(value).map_err(text)?;
    if let Some(members) = value.as_object_mut()
        && let Some(seconds) = members.remove(&format!("{name}_s")).and_then(|seconds| seconds.as_i64())
    {
        members.insert(name.to_owned(), rfc3339(seconds * 1_000_000).into());
    }
    Ok(value)
}
