//! Files of Sigma rules: the documents in them, and whether they can be run.
//!
//! A document is a rule, a correlation or a filter (<https://sigmahq.io/sigma-specification/>). The rules that a correlation counts
//! stand in its file, with an `id` each; a filter may name rules of any file.
//!
//! **Invariant:** pure; a file is read whole, or refused with the line of the document that cannot be.

use std::collections::BTreeSet;

use rsigma_eval::{CorrelationConfig, CorrelationEngine};
use rsigma_parser::{Level, SigmaCollection, Status, parse_sigma_yaml};

/// Documents of one file.
const DOCUMENTS_MAX: usize = 1_000;

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) kind: &'static str,
    /// Its id, or its title where it has none.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) level: Option<&'static str>,
    pub(super) status: Option<&'static str>,
    pub(super) tags: Vec<String>,
    pub(super) yaml: String,
}

/// The documents of a file.
pub(super) fn read(text: &str) -> Result<Vec<Document>, String> {
    let mut all = Vec::new();
    let mut together = SigmaCollection::new();
    for (line, yaml) in parts(text) {
        let (document, mut parsed) = one(yaml).map_err(|what| format!("line {line}: {what}"))?;
        all.push(document);
        together.rules.append(&mut parsed.rules);
        together.correlations.append(&mut parsed.correlations);
        together.filters.append(&mut parsed.filters);
    }
    match all.len() {
        0 => return Err("there is no rule in it".into()),
        count if count > DOCUMENTS_MAX => return Err(format!("it has more than {DOCUMENTS_MAX} documents")),
        _ => {}
    }
    counted(&together)?;
    let mut engine = CorrelationEngine::new(CorrelationConfig::default());
    engine.add_collection(&together).map_err(|error| error.to_string())?;
    Ok(all)
}

/// The texts between the marks `---`, each with its first line; what is empty is left out.
fn parts(text: &str) -> Vec<(usize, String)> {
    let mut all = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = rest {
            all.push((number + 1, rest.to_owned()));
        } else if let Some((_, part)) = all.last_mut() {
            part.push_str(line);
        }
        if let Some((_, part)) = all.last_mut() {
            part.push('\n');
        }
    }
    let says = |line: &str| !line.is_empty() && !line.starts_with('#') && line != "...";
    all.retain(|(_, part)| part.lines().any(|line| says(line.trim())));
    all
}

/// A document, and what the library reads in it.
fn one(yaml: String) -> Result<(Document, SigmaCollection), String> {
    let parsed = parse_sigma_yaml(&yaml).map_err(|error| error.to_string())?;
    if let Some(error) = parsed.errors.first() {
        return Err(error.clone());
    }
    let made = |kind,
                (id, title): (&Option<String>, &String),
                level: Option<Level>,
                status: Option<Status>,
                tags: &[String]| {
        Document {
            kind,
            id: id.clone().unwrap_or_else(|| title.clone()),
            title: title.clone(),
            level: level.as_ref().map(Level::as_str),
            status: status.map(status_name),
            tags: tags.to_vec(),
            yaml,
        }
    };
    let document = if let Some(rule) = parsed.rules.first() {
        made("rule", (&rule.id, &rule.title), rule.level, rule.status, &rule.tags)
    } else if let Some(rule) = parsed.correlations.first() {
        made("correlation", (&rule.id, &rule.title), rule.level, rule.status, &rule.tags)
    } else if let Some(rule) = parsed.filters.first() {
        made("filter", (&rule.id, &rule.title), rule.level, rule.status, &rule.tags)
    } else {
        return Err("collections by action are not read: write each rule whole".into());
    };
    Ok((document, parsed))
}

/// Holds correlations to rules of their file that have an id: the library counts by it.
fn counted(together: &SigmaCollection) -> Result<(), String> {
    let rules = together.rules.iter().filter(|rule| rule.id.is_some()).flat_map(|rule| [&rule.id, &rule.name]);
    let correlations = together.correlations.iter().flat_map(|rule| [&rule.id, &rule.name]);
    let known: BTreeSet<&String> = rules.chain(correlations).flatten().collect();
    for correlation in &together.correlations {
        if let Some(missing) = correlation.rules.iter().find(|name| !known.contains(name)) {
            return Err(format!(
                "the correlation \"{}\" names the rule \"{missing}\": the rules that it counts stand in its file, with an id each",
                correlation.title
            ));
        }
    }
    Ok(())
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Stable => "stable",
        Status::Test => "test",
        Status::Experimental => "experimental",
        Status::Deprecated => "deprecated",
        Status::Unsupported => "unsupported",
    }
}

/// The techniques of ATT&CK among tags: `attack.t1110.001` is T1110.001.
pub(super) fn techniques(tags: &[String]) -> Vec<String> {
    let technique = |tag: &String| {
        let name = tag.to_ascii_uppercase();
        let name = name.strip_prefix("ATTACK.")?;
        let digits = name.strip_prefix('T')?;
        let (number, part) = digits.split_once('.').map_or((digits, None), |(number, part)| (number, Some(part)));
        let all_digits =
            |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        (all_digits(number, 4) && part.is_none_or(|part| all_digits(part, 3))).then(|| name.to_owned())
    };
    tags.iter().filter_map(technique).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "title: Shell\nid: 1\nlogsource:\n    category: process_creation\ndetection:\n    selection:\n        \
                        Image|endswith: /sh\n    condition: selection\nlevel: high\nstatus: test\ntags:\n    - attack.t1059.004\n    \
                        - attack.execution\n";
    const COUNT: &str = "title: Many shells\ncorrelation:\n    type: event_count\n    rules:\n        - 'one'\n    group-by:\n        - \
                         User\n    timespan: 5m\n    condition:\n        gte: 3\n";

    #[test]
    fn a_rule_is_read_with_what_it_says_of_itself() {
        let all = read(&format!("# a comment\n---\n{RULE}...\n")).expect("a rule");
        assert_eq!(all.len(), 1);
        let rule = &all[0];
        assert_eq!(
            (rule.kind, rule.title.as_str(), rule.level, rule.status),
            ("rule", "Shell", Some("high"), Some("test"))
        );
        assert_eq!(techniques(&rule.tags), ["T1059.004"]);
    }

    #[test]
    fn techniques_are_told_from_tactics() {
        let tags = [
            "attack.t1110",
            "attack.T1110.003",
            "attack.credential-access",
            "attack.g0016",
            "attack.t11",
            "cve.2021-1",
        ];
        assert_eq!(techniques(&tags.map(str::to_owned)), ["T1110", "T1110.003"]);
    }

    #[test]
    fn a_file_that_cannot_be_run_whole_is_refused_with_its_place() {
        let rule = RULE.replace("id: 1", "id: 'one'");
        let ok = format!("{rule}---\n{COUNT}");
        assert_eq!(read(&ok).expect("both").iter().map(|one| one.kind).collect::<Vec<_>>(), ["rule", "correlation"]);
        for (text, part) in [
            (String::new(), "no rule"),
            ("# nothing\n---\n".into(), "no rule"),
            (format!("{rule}---\ntitle: x\n"), "line 14: "),
            (rule.replace("condition: selection", "condition: selection and"), "line 1: "),
            (rule.replace("condition: selection", "condition: other"), "other"),
            (rule.replace("|endswith", "|startswithout"), "startswithout"),
            (rule.replace("|endswith: /sh", "|re: '('"), "regex"),
            (rule.replace("|endswith: /sh", "|cidr: 10.0.0.0/99"), "CIDR"),
            (rule.replace("level: high", "level: loud"), "level"),
            (format!("action: global\n{rule}"), "collections by action"),
            ("a: [".into(), "line 1: "),
            (COUNT.into(), "stand in its file"),
            (format!("{}---\n{COUNT}", RULE.replace("id: 1", "name: 'one'")), "with an id"),
        ] {
            let refused = read(&text).expect_err(&text);
            assert!(refused.contains(part), "{text}\n{refused}");
        }
    }
}
