//! Feeds as CSV: with a head that names its columns, or a plain list with the indicator first.
//!
//! Columns are `value` (also `indicator`, `ioc`, `ip`, `domain`, `sha256`, `dst_ip`), and where they are there `type`, `confidence` (0 to
//! 1, or to 100), `description`, `valid_until`. Lines that begin with `#` are comments.
//!
//! **Invariant:** pure; a field does not go over the end of its line.

use super::Indicator;
use crate::operation::time_us;

const VALUES: [&str; 7] = ["value", "indicator", "ioc", "ip", "domain", "sha256", "dst_ip"];

/// Where a column is.
#[derive(Default)]
struct Columns {
    value: usize,
    kind: Option<usize>,
    confidence: Option<usize>,
    description: Option<usize>,
    valid_until: Option<usize>,
}

/// The indicators of a text.
pub(super) fn read(text: &str) -> Result<Vec<Indicator>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_start_matches('\u{feff}').trim()));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).peekable();
    let Some((_, first)) = lines.peek() else { return Ok(Vec::new()) };
    let columns = match head(&fields(first)) {
        Some(columns) => {
            lines.next();
            columns
        }
        None => Columns::default(),
    };
    lines.map(|(number, line)| indicator(&columns, &fields(line)).ok_or_else(|| odd(number, line))).collect()
}

fn odd(number: usize, line: &str) -> String {
    let shown: String = line.chars().take(60).collect();
    format!("line {number} is no indicator: \"{shown}\"")
}

/// The columns, where the first line names them.
fn head(names: &[String]) -> Option<Columns> {
    let place = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.to_ascii_lowercase().as_str()));
    Some(Columns {
        value: place(&VALUES)?,
        kind: place(&["type", "kind"]),
        confidence: place(&["confidence"]),
        description: place(&["description", "comment", "malware"]),
        valid_until: place(&["valid_until", "expires_at"]),
    })
}

fn indicator(columns: &Columns, fields: &[String]) -> Option<Indicator> {
    let text = |place: Option<usize>| {
        place.and_then(|place| fields.get(place)).map(|text| text.trim()).filter(|text| !text.is_empty())
    };
    let kind = text(columns.kind).map(|kind| match kind.to_ascii_lowercase().as_str() {
        "ip" | "ipv4" | "ipv6" | "ipv4-addr" | "ipv6-addr" | "ip-dst" | "ip-src" => "ip",
        "domain" | "domain-name" | "hostname" | "url" => "domain",
        "sha256" | "sha-256" | "filehash-sha256" => "sha256",
        "user" | "username" | "user-account" => "user",
        _ => "",
    });
    let mut found = Indicator::read(kind, fields.get(columns.value)?)?;
    if let Some(confidence) = text(columns.confidence) {
        let confidence: f64 = confidence.parse().ok()?;
        found.confidence = if confidence > 1.0 { confidence / 100.0 } else { confidence };
        (0.0..=1.0).contains(&found.confidence).then_some(())?;
    }
    found.description = text(columns.description).map(str::to_owned);
    if let Some(until) = text(columns.valid_until) {
        found.valid_until_us = Some(time_us(until)?);
    }
    Some(found)
}

/// The fields of a line; a quote is doubled within quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut quoted, mut chars) = (vec![String::new()], false, line.chars().peekable());
    while let Some(char) = chars.next() {
        let last = all.last_mut().expect("there is one field at least");
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                last.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            char => last.push(char),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_names_columns_in_any_order() {
        let text = "description,IOC,confidence,type,valid_until\n\"a \"\"bot\"\", old\",203.0.113.7,85,ipv4,2026-01-01T00:00:00Z\n";
        let found = read(text).unwrap();
        assert_eq!((found[0].kind, found[0].confidence), ("ip", 0.85));
        assert_eq!(found[0].description.as_deref(), Some("a \"bot\", old"));
        assert_eq!(found[0].valid_until_us, time_us("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn a_plain_list_has_comments_and_no_head() {
        let found = read("# a list\n203.0.113.7\n\nevil.example,whatever\n").unwrap();
        let values: Vec<&str> = found.iter().map(|indicator| indicator.value.as_str()).collect();
        assert_eq!(values, ["203.0.113.7", "evil.example"]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, line) in [
            ("203.0.113.7\nnot this\n", "line 2"),
            ("type,value\nip,evil.example\n", "line 2"),
            ("type,value\nmagic,1.2.3.4\n", "line 2"),
            ("value,confidence\n1.2.3.4,900\n", "line 2"),
        ] {
            assert!(read(text).unwrap_err().contains(line), "{text}");
        }
    }
}
