//! Statements that the library's parser does not know, or knows otherwise: told by their first words, read by their own modules.
//!
//! **Invariant:** knows first words only; what follows them is for the module that the words name.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Kind;
use crate::{Error, Result, copy, cursor, detector, maintenance, role, rollup};

/// The statements of a text that begins as one of these; none for other texts.
pub(super) fn parse(sql: &str) -> Result<Option<Vec<Kind>>> {
    let (first, rest) = word(sql);
    let kind = match (first.as_str(), word(rest).0.as_str()) {
        ("copy", _) => Kind::Copy(Box::new(copy::parse(sql)?)),
        ("fetch" | "move", _) => match cursor::parse(sql) {
            Some((fetch, moves)) => Kind::Fetch(fetch, moves),
            None => return Ok(None),
        },
        ("vacuum" | "analyze" | "analyse" | "checkpoint", _) => Kind::Maintain(maintenance::parse(sql)?),
        ("create" | "drop", "detector") => Kind::Detector(Box::new(detector::parse(sql)?)),
        ("create" | "drop", "rollup") => Kind::Rollup(Box::new(rollup::parse(sql)?)),
        ("create" | "alter" | "drop", "role" | "user") | ("grant" | "revoke", _) => {
            let kinds = role::parse(sql)?.into_iter().map(|statement| Kind::Role(Box::new(statement)));
            return Ok(Some(kinds.collect()));
        }
        _ => return Ok(None),
    };
    Ok(Some(vec![kind]))
}

/// The first word of a text behind its comments, in lower case, and what follows it.
fn word(sql: &str) -> (String, &str) {
    let text = sql.trim_start();
    let comment = match (text.strip_prefix("--"), text.strip_prefix("/*")) {
        (Some(line), _) => Some(line.split_once('\n')),
        (_, Some(comment)) => Some(comment.split_once("*/")),
        _ => None,
    };
    match comment {
        Some(ended) => word(ended.map_or("", |(_, rest)| rest)),
        None => {
            let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
            (text[..end].to_lowercase(), &text[end..])
        }
    }
}

/// Holds a statement to a message of its own: nothing but semicolons may follow what has been read of it.
pub(crate) fn ends(parser: &mut Parser<'_>, tag: &str) -> Result<()> {
    let ended = parser.consume_token(&Token::SemiColon);
    while parser.consume_token(&Token::SemiColon) {}
    match parser.peek_token().token {
        Token::EOF => Ok(()),
        _ if ended => Err(not_alone(tag)),
        next => Err(near(&next)),
    }
}

/// The error of a statement among others.
pub(crate) fn not_alone(tag: &str) -> Error {
    Error::Unsupported(format!("{tag} must stand in a message of its own"))
}

/// The error of a token that does not belong where it stands.
pub(crate) fn near(token: &Token) -> Error {
    Error::Syntax(format!("syntax error at or near \"{token}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_by_their_first_words_behind_comments() {
        let told = |sql: &str| parse(sql).expect(sql).is_some();
        assert!(told("-- why\n/* not */ CREATE ROLLUP cpu_1m ON cpu EVERY '1 minute'"));
        assert!(told("/* a */copy t FROM STDIN") && told("\tVACUUM") && told("Checkpoint;"));
        assert!(!told("copying") && !told("SELECT 'copy'") && !told("CREATE TABLE rollup (a INT)"));
        assert!(!told("") && !told("-- only a comment") && !told("/* not closed"));
    }
}
