//! VACUUM, ANALYZE and CHECKPOINT, which scripts and tools for PostgreSQL send.
//!
//! **Invariant:** each does what its name means here, and says so where that is nothing.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use juno_engine::Db;

use crate::definition::table_name;
use crate::statement::own;
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

/// The statement of a text that begins as one of them.
///
/// # Errors
/// [`Error::Syntax`] where it goes on otherwise, [`Error::Unsupported`] where another statement follows.
pub(crate) fn parse(sql: &str) -> Result<Maintenance> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql)?;
    let command = parser.next_token().to_string().to_lowercase();
    if command == "checkpoint" {
        own::ends(&mut parser, Maintenance::Checkpoint.tag())?;
        return Ok(Maintenance::Checkpoint);
    }
    options(&mut parser)?;
    let table = match parser.peek_token_ref().token {
        Token::Word(_) => Some(table_name(&parser.parse_object_name(false)?)?),
        _ => None,
    };
    let statement = if command == "vacuum" { Maintenance::Vacuum(table) } else { Maintenance::Analyze };
    match parser.peek_token_ref().token {
        Token::Word(_) | Token::Comma | Token::LParen => {
            Err(Error::Syntax("syntax error: one table at most: VACUUM [FULL] [ANALYZE] [table]".into()))
        }
        _ => own::ends(&mut parser, statement.tag()).map(|()| statement),
    }
}

/// Skips `FULL VERBOSE …` or `(FULL, VERBOSE true, …)`: none of them changes what is done.
fn options(parser: &mut Parser<'_>) -> Result<()> {
    if parser.consume_token(&Token::LParen) {
        while !parser.consume_token(&Token::RParen) {
            if parser.next_token() == Token::EOF {
                return Err(own::near(&Token::EOF));
            }
        }
    }
    let one = [Keyword::FULL, Keyword::FREEZE, Keyword::VERBOSE, Keyword::ANALYZE];
    while parser.parse_one_of_keywords(&one).is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_postgresql_are_read() {
        let vacuum = |table: Option<&str>| Maintenance::Vacuum(table.map(str::to_owned));
        assert_eq!(parse("VACUUM").unwrap(), vacuum(None));
        assert_eq!(parse("vacuum full analyze public.Cpu;").unwrap(), vacuum(Some("cpu")));
        assert_eq!(parse("VACUUM (VERBOSE, ANALYZE) \"My t\";").unwrap(), vacuum(Some("My t")));
        assert_eq!(parse("VACUUM(ANALYZE) \"T\"").unwrap(), vacuum(Some("T")));
        assert_eq!(parse("ANALYZE VERBOSE cpu").unwrap(), Maintenance::Analyze);
        assert_eq!(parse("checkpoint").unwrap(), Maintenance::Checkpoint);
        for wrong in ["CHECKPOINT cpu", "VACUUM a b", "VACUUM a, b", "VACUUM (FULL", "VACUUM + 1", "VACUUM other.a"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(parse("VACUUM; SELECT 1"), Err(Error::Unsupported(_))));
    }
}
