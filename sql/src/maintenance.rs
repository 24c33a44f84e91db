//! VACUUM, ANALYZE and CHECKPOINT, which scripts and tools for PostgreSQL send.
//!
//! **Invariant:** each does what its name means here, and says so where that is nothing.

use juno_engine::Db;

use crate::{Error, Result};

/// What is to be looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Maintenance {
    /// Merges parts, of one table or of all, as `CALL compact` does.
    Vacuum(Option<String>),
    /// Nothing: every part carries its statistics.
    Analyze,
    /// Writes what is in memory to parts, as `CALL flush` does.
    Checkpoint,
}

impl Maintenance {
    /// The command tag.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Maintenance::Vacuum(_) => "VACUUM",
            Maintenance::Analyze => "ANALYZE",
            Maintenance::Checkpoint => "CHECKPOINT",
        }
    }

    /// Does it; answers what the user should be told.
    pub(crate) fn run(&self, db: &Db) -> Result<Option<&'static str>> {
        match self {
            Maintenance::Vacuum(table) => db.compact(table.as_deref()).map(drop)?,
            Maintenance::Analyze => return Ok(Some("statistics are kept with each part; there is nothing to analyze")),
            Maintenance::Checkpoint => db.flush(None).map(drop)?,
        }
        Ok(None)
    }
}

/// One of them as a text of its own; none for other texts.
///
/// # Errors
/// [`Error::Syntax`] where it begins as one and goes on otherwise.
pub(crate) fn parse(sql: &str) -> Result<Option<Maintenance>> {
    let sql = sql.trim().trim_end_matches(';').trim_end();
    let mut words = sql.split_whitespace();
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    // VACUUM (ANALYZE, VERBOSE) t
    let (first, rest) = match first.split_once('(') {
        Some((first, _)) => (first.to_owned(), &sql[first.len()..]),
        None => (first.clone(), &sql[first.len()..]),
    };
    if !matches!(first.as_str(), "vacuum" | "analyze" | "analyse" | "checkpoint") || sql.contains(';') {
        return Ok(None);
    }
    let rest = match rest.trim().strip_prefix('(') {
        Some(options) => options.split_once(')').map(|(_, rest)| rest).ok_or_else(|| unexpected(sql))?,
        None => rest,
    };
    let options = ["full", "freeze", "verbose", "analyze", "analyse"];
    let names: Vec<&str> =
        rest.split_whitespace().skip_while(|word| options.contains(&word.to_ascii_lowercase().as_str())).collect();
    let table = match names.as_slice() {
        [] => None,
        [name] if first != "checkpoint" && !name.contains(['(', ',']) => Some(name_of(name)),
        _ => return Err(unexpected(sql)),
    };
    Ok(Some(match first.as_str() {
        "vacuum" => Maintenance::Vacuum(table),
        "checkpoint" => Maintenance::Checkpoint,
        _ => Maintenance::Analyze,
    }))
}

fn name_of(name: &str) -> String {
    let name = name.strip_prefix("public.").unwrap_or(name);
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_lowercase(),
    }
}

fn unexpected(sql: &str) -> Error {
    Error::Syntax(format!("syntax error: \"{sql}\" takes one table at most: VACUUM [FULL] [ANALYZE] [table]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_postgresql_are_read() {
        let vacuum = |table: Option<&str>| Some(Maintenance::Vacuum(table.map(str::to_owned)));
        assert_eq!(parse("VACUUM").unwrap(), vacuum(None));
        assert_eq!(parse("vacuum full analyze public.Cpu;").unwrap(), vacuum(Some("cpu")));
        assert_eq!(parse("VACUUM (VERBOSE, ANALYZE) \"My t\";").ok(), None, "a name with a space is not read");
        assert_eq!(parse("VACUUM(ANALYZE) \"T\"").unwrap(), vacuum(Some("T")));
        assert_eq!(parse("ANALYZE VERBOSE cpu").unwrap(), Some(Maintenance::Analyze));
        assert_eq!(parse("checkpoint").unwrap(), Some(Maintenance::Checkpoint));
        assert_eq!(parse("SELECT 1").unwrap(), None);
        assert!(parse("CHECKPOINT cpu").is_err());
        assert!(parse("VACUUM a b").is_err());
    }
}
