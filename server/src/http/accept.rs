//! Which format an answer is written in, by the request's Accept header (RFC 9110, section 12.5.1).
//!
//! **Invariant:** pure; knows no endpoint.

use axum::http::{HeaderMap, header};

use super::problem::Problem;

/// A format that rows can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/json`
    Json,
    /// `application/vnd.apache.arrow.stream`
    Arrow,
    /// `text/csv`
    Csv,
    /// `application/x-ndjson`
    Ndjson,
    /// `application/vnd.apache.parquet`
    Parquet,
    /// `application/openmetrics-text`
    OpenMetrics,
    /// `text/plain; version=0.0.4`
    Prometheus,
}

impl Format {
    /// The formats of row results.
    pub(crate) const ROWS: &[Format] = &[Format::Json, Format::Arrow, Format::Csv, Format::Ndjson, Format::Parquet];

    /// The Content-Type of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Ndjson => "application/x-ndjson",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The media types that ask for it.
    fn asked_as(self) -> &'static [&'static str] {
        match self {
            Format::Json => &["application/json"],
            Format::Arrow => &["application/vnd.apache.arrow.stream"],
            Format::Csv => &["text/csv"],
            Format::Ndjson => &["application/x-ndjson", "application/ndjson", "application/jsonl"],
            Format::Parquet => &["application/vnd.apache.parquet", "application/x-parquet"],
            Format::OpenMetrics => &["application/openmetrics-text"],
            Format::Prometheus => &["text/plain"],
        }
    }
}

/// The offered format that the client likes best; the first offered where it does not care.
pub(crate) fn negotiate(headers: &HeaderMap, offered: &[Format]) -> Result<Format, Problem> {
    let accept =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if accept.trim().is_empty() {
        return Ok(offered[0]);
    }
    let mut best: Option<(Format, f32)> = None;
    for format in offered {
        let quality = quality(&accept, *format);
        if quality > 0.0 && best.is_none_or(|(_, other)| quality > other) {
            best = Some((*format, quality));
        }
    }
    let names: Vec<&str> = offered.iter().map(|format| format.asked_as()[0]).collect();
    best.map(|(format, _)| format).ok_or_else(|| {
        Problem::new("not-acceptable", format!("Accept \"{accept}\" allows none of {}", names.join(", ")))
    })
}

/// How much the header wants the format: the most specific range that matches decides.
fn quality(accept: &str, format: Format) -> f32 {
    let mut found = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';');
        let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let q = parts.find_map(|p| p.trim().strip_prefix("q=")?.trim().parse::<f32>().ok()).unwrap_or(1.0);
        let rank = format.asked_as().iter().map(|name| specificity(&media, name)).max().unwrap_or(0);
        if rank > found.0 {
            found = (rank, q);
        }
    }
    found.1
}

fn specificity(range: &str, name: &str) -> u8 {
    match range.strip_suffix("/*") {
        _ if range == name => 3,
        Some("*") => 1,
        Some(group) if name.split('/').next() == Some(group) => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn chosen(accept: &str) -> Result<Format, Problem> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        negotiate(&headers, Format::ROWS)
    }

    #[test]
    fn json_is_what_a_client_gets_that_does_not_care() {
        assert_eq!(negotiate(&HeaderMap::new(), Format::ROWS).unwrap(), Format::Json);
        assert_eq!(chosen("*/*").unwrap(), Format::Json);
        assert_eq!(chosen("text/html, */*;q=0.1").unwrap(), Format::Json);
    }

    #[test]
    fn the_highest_quality_wins_and_zero_excludes() {
        assert_eq!(chosen("application/json;q=0.5, text/csv").unwrap(), Format::Csv);
        assert_eq!(chosen("text/*").unwrap(), Format::Csv);
        assert_eq!(chosen("application/json;q=0, */*").unwrap(), Format::Arrow);
        assert_eq!(chosen("Application/Vnd.Apache.Parquet").unwrap(), Format::Parquet);
    }

    #[test]
    fn nothing_acceptable_is_406_and_names_what_there_is() {
        let problem = chosen("image/png").unwrap_err();
        assert_eq!(problem.status, 406);
        assert!(problem.detail.contains("text/csv"), "{}", problem.detail);
    }
}
