//! How functions refuse what they are called with.
//!
//! **Invariant:** every refusal says which argument is meant and what it may be.

use datafusion::common::DataFusionError;

use crate::Error;

/// A value outside what the argument takes.
pub(super) fn invalid(text: impl Into<String>) -> DataFusionError {
    Error::InvalidArgument(text.into()).into()
}

/// A type that the argument does not take.
pub(super) fn mismatch(text: impl Into<String>) -> DataFusionError {
    Error::TypeMismatch(text.into()).into()
}
