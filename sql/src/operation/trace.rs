//! The trace that work belongs to (W3C Trace Context): an operation's goes with all that is asked of others on its behalf.
//!
//! **Invariant:** a trace changes nothing of what is done.

tokio::task_local! {
    static TRACE: Option<String>;
}

/// The trace id of the operation under way; none outside of one, or where its request has none.
pub fn trace_id() -> Option<String> {
    TRACE.try_with(Clone::clone).ok().flatten()
}

/// The trace id of what has this id, a UUID: its digits. What is done about an incident without a request is one trace.
pub fn trace_of(id: &str) -> String {
    id.chars().filter(char::is_ascii_hexdigit).collect()
}

/// Whether a text is a trace id.
pub(crate) fn is_trace(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Work as a part of a trace.
pub(crate) fn in_trace<F: Future>(trace_id: Option<String>, work: F) -> impl Future<Output = F::Output> {
    TRACE.scope(trace_id, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_knows_its_trace_and_nobody_elses() {
        assert_eq!(trace_id(), None);
        assert_eq!(in_trace(Some("a".into()), async { trace_id() }).await.as_deref(), Some("a"));
        assert_eq!(in_trace(Some("a".into()), in_trace(None, async { trace_id() })).await, None);
        assert_eq!(trace_of("00000000-0000-7000-8000-0000000000cc"), "000000000000700080000000000000cc");
        assert!(is_trace(&trace_of("00000000-0000-7000-8000-0000000000cc")) && !is_trace("a\nb"));
    }
}
