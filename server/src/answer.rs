//! What other servers answer: bodies up to a limit, and errors with what caused them.
//!
//! **Invariant:** an error is told without the address that was asked, in which there may be a secret.

use std::error::Error;

/// The body of an answer of so many bytes at most.
///
/// # Errors
/// A text that says what is wrong with it.
pub(crate) async fn body(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
            return Err(format!("an answer of more than {bytes_max} bytes"));
        }
    }
    Ok(body)
}

/// What went wrong between here and a server.
pub(crate) fn told(error: reqwest::Error) -> String {
    with_causes(&error.without_url())
}

/// An error with what caused it, as some say nothing themselves.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
