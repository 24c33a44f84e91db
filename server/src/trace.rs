//! W3C Trace Context: the field `traceparent` of requests, answers, and what is posted to others.
//!
//! **Invariant:** a field that is not as the standard has it is as good as none.

/// The field's name.
pub(crate) const TRACE_PARENT: &str = "traceparent";

/// A new trace id, of these random bits.
pub(crate) fn new(random: impl Fn() -> u64) -> String {
    format!("{:016x}{:016x}", random().max(1), random())
}

/// The field of a new span of a trace.
pub(crate) fn parent(trace_id: &str, random: impl Fn() -> u64) -> String {
    format!("00-{trace_id}-{:016x}-01", random().max(1))
}

/// The trace id of a field.
pub(crate) fn id(parent: &str) -> Option<&str> {
    let parts: Vec<&str> = parent.split('-').collect();
    let [version, trace, span, flags, more @ ..] = parts.as_slice() else { return None };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_one = |text: &str| text.bytes().any(|b| b != b'0');
    let valid = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    // Versions to come may have more parts.
    let is_known = *version != "ff" && (more.is_empty() || *version != "00");
    (valid && is_one(trace) && is_one(span) && is_known).then_some(*trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_is_read() {
        for bits in [0, 7, u64::MAX] {
            let trace = new(|| bits);
            assert_eq!(id(&parent(&trace, || bits)), Some(trace.as_str()));
        }
    }

    #[test]
    fn what_is_no_field_of_the_standard_has_no_trace() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for well in ["00", "cc"] {
            assert_eq!(id(&format!("{well}-{trace}-00f067aa0ba902b7-01")), Some(trace));
        }
        assert_eq!(id(&format!("cc-{trace}-00f067aa0ba902b7-01-what-comes")), Some(trace), "a version to come");
        for odd in [
            "nonsense".to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-x"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", "g".repeat(32)),
        ] {
            assert_eq!(id(&odd), None, "{odd}");
        }
    }
}
