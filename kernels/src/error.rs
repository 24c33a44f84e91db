//! The one error type of the kernels, divided by what the caller does next.
//!
//! **Invariant:** data never makes an error: NaN, infinities, constants and empty series have rules of their own in
//! each kernel. Nor does a device that fails at work: its call is repeated on the CPU twin. Errors are about
//! parameters, about the shape of the call and about a device that was asked for by name and cannot be had or fails.

/// Why a kernel call or a device request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is out of its range: the user's to correct.
    #[error("{0}")]
    Parameter(String),
    /// Values and offsets do not fit together: the calling code's to correct.
    #[error("{0}")]
    Shape(String),
    /// The device that was asked for by name cannot be had on this machine, or failed at work.
    #[error("{0}")]
    NoDevice(String),
    /// A model's bytes are damaged, or of another version: not this program's to read.
    #[error("{0}")]
    Artefact(String),
    /// Nobody waits for the work any more.
    #[error("the work was stopped")]
    Stopped,
}

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;
