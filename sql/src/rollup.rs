//! CREATE ROLLUP and DROP ROLLUP, and the view `juno_rollups`.
//!
//! ```sql
//! CREATE ROLLUP [IF NOT EXISTS] name ON table [(column, …)] EVERY '1 minute'
//! DROP ROLLUP [IF EXISTS] name [, …]
//! ```
//!
//! **Invariant:** parsing is pure; the view is worked out when it is read.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use juno_engine::{Db, Rollup, RollupStatus};

use crate::definition::{folded, table_name};
use crate::statement::own::{self, near};
use crate::{Error, Result, computed};

/// The view of rollups.
pub(crate) const VIEW: &str = "juno_rollups";

const DAY_US: i64 = 86_400_000_000;

/// A statement about rollups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RollupStatement {
    Create { rollup: Rollup, table: String, if_not_exists: bool },
    Drop { names: Vec<String>, if_exists: bool },
}

impl RollupStatement {
    /// The command tag.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            RollupStatement::Create { .. } => "CREATE ROLLUP",
            RollupStatement::Drop { .. } => "DROP ROLLUP",
        }
    }
}

/// The statement of a text that begins as one about rollups.
pub(crate) fn parse(sql: &str) -> Result<RollupStatement> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql)?;
    let creates = parser.next_token().to_string().eq_ignore_ascii_case("create");
    parser.next_token();
    let statement = if creates { create(&mut parser)? } else { drop_rollups(&mut parser)? };
    own::ends(&mut parser, statement.tag())?;
    Ok(statement)
}

fn create(parser: &mut Parser<'_>) -> Result<RollupStatement> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name(parser)?;
    parser.expect_keyword(Keyword::ON)?;
    let table = table_name(&parser.parse_object_name(false)?)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns.push(folded(&parser.parse_identifier()?));
        while parser.consume_token(&Token::Comma) {
            columns.push(folded(&parser.parse_identifier()?));
        }
        parser.expect_token(&Token::RParen)?;
    }
    match parser.next_token().token {
        Token::Word(word) if word.value.eq_ignore_ascii_case("every") => {}
        Token::EOF | Token::SemiColon => {
            return Err(Error::Syntax("syntax error: CREATE ROLLUP … ON table EVERY '1 minute'".into()));
        }
        other => return Err(near(&other)),
    }
    let _ = parser.parse_keyword(Keyword::INTERVAL);
    let width_us = match parser.next_token().token {
        Token::SingleQuotedString(text) => width(&text)?,
        _ => return Err(Error::Syntax("syntax error: EVERY takes a length of time in quotes, as '1 minute'".into())),
    };
    Ok(RollupStatement::Create { rollup: Rollup { name, width_us, columns }, table, if_not_exists })
}

fn drop_rollups(parser: &mut Parser<'_>) -> Result<RollupStatement> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let mut names = vec![name(parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(name(parser)?);
    }
    // Nothing depends on a rollup.
    let _ = parser.parse_one_of_keywords(&[Keyword::CASCADE, Keyword::RESTRICT]);
    Ok(RollupStatement::Drop { names, if_exists })
}

/// The name of a rollup: rollups live in the schema of their tables.
fn name(parser: &mut Parser<'_>) -> Result<String> {
    let name: ObjectName = parser.parse_object_name(false)?;
    let name = table_name(&name)?;
    crate::definition::check_name(&name)?;
    Ok(name)
}

/// A width in microseconds.
fn width(text: &str) -> Result<i64> {
    let wrong = || {
        Error::InvalidArgument(format!(
            "EVERY '{text}' must be from 1 second to 1 day, in whole seconds, and divide a day evenly, as '10 seconds', \
             '1 minute', '15 minutes' or '1 hour'"
        ))
    };
    let interval = parse_interval_month_day_nano(text).map_err(|_| wrong())?;
    let whole = interval.months == 0 && interval.nanoseconds % 1_000 == 0;
    let us = i64::from(interval.days).checked_mul(DAY_US).and_then(|us| us.checked_add(interval.nanoseconds / 1_000));
    us.filter(|&us| whole && Rollup::is_width(us)).ok_or_else(wrong)
}

/// The table that has the rollup of this name, and the rollup.
pub(crate) fn find(db: &Db, name: &str) -> Option<(String, Rollup)> {
    let snapshot = db.snapshot();
    snapshot.catalog().tables.keys().find_map(|table| {
        let found = snapshot.table(table)?.rollups().into_iter().find(|rollup| rollup.name == name)?;
        Some((table.clone(), found))
    })
}

/// The view of all rollups.
pub(crate) fn view(db: &Db) -> Result<Arc<dyn TableProvider>> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let count = |name| Field::new(name, DataType::Int64, true);
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        text("name"),
        text("table_name"),
        text("every"),
        text("columns"),
        count("parts"),
        count("parts_done"),
        count("parts_with_blocks"),
        count("bytes"),
    ]));
    let db = db.clone();
    computed::view(schema, move |schema| rows(&db, schema))
}

/// The rows of the view.
fn rows(db: &Db, schema: &SchemaRef) -> Result<RecordBatch> {
    let snapshot = db.snapshot();
    let mut all: Vec<(String, RollupStatus)> = Vec::new();
    for name in snapshot.catalog().tables.keys() {
        let Some(table) = snapshot.table(name) else { continue };
        let status = table.rollup_status()?;
        all.extend(status.into_iter().map(|status| (name.clone(), status)));
    }
    let texts = |of: &dyn Fn(&(String, RollupStatus)) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<StringArray>())
    };
    let counts = |of: &dyn Fn(&RollupStatus) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(|(_, status)| i64::try_from(of(status)).ok()).collect::<Int64Array>())
    };
    let columns = |status: &RollupStatus| (!status.rollup.columns.is_empty()).then(|| status.rollup.columns.join(", "));
    let columns = vec![
        texts(&|(_, status)| Some(status.rollup.name.clone())),
        texts(&|(table, _)| Some(table.clone())),
        texts(&|(_, status)| Some(crate::aggregate::length(status.rollup.width_us))),
        texts(&|(_, status)| columns(status)),
        counts(&|status| status.parts as u64),
        counts(&|status| status.parts_done as u64),
        counts(&|status| status.parts_with_blocks as u64),
        counts(&|status| status.bytes),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_and_widths_checked() {
        let one = |sql: &str| parse(sql).expect(sql);
        let rollup = |columns: &[&str]| Rollup {
            name: "cpu_1m".into(),
            width_us: 60_000_000,
            columns: columns.iter().map(|&name| name.into()).collect(),
        };
        let create = |columns, if_not_exists| RollupStatement::Create {
            rollup: rollup(columns),
            table: "cpu".into(),
            if_not_exists,
        };
        assert_eq!(one("CREATE ROLLUP cpu_1m ON cpu EVERY '1 minute';"), create(&[], false));
        let spelt =
            "create rollup if not exists public.Cpu_1m ON public.cpu (usage, \"Idle\") every INTERVAL '60 seconds'";
        assert_eq!(one(spelt), create(&["usage", "Idle"], true));
        assert_eq!(one("-- why\n/* not */ CREATE ROLLUP cpu_1m ON cpu EVERY '1 minute'"), create(&[], false));
        let dropped = RollupStatement::Drop { names: vec!["a".into(), "b".into()], if_exists: true };
        assert_eq!(one("DROP ROLLUP IF EXISTS a, b CASCADE"), dropped);
        for odd in
            ["CREATE ROLLUP", "CREATE ROLLUP a ON t", "CREATE ROLLUP a ON t () EVERY '1 minute'", "DROP ROLLUP a + b"]
        {
            assert!(matches!(parse(odd), Err(Error::Syntax(_))), "{odd}");
        }
        assert!(matches!(parse("DROP ROLLUP a; SELECT 1"), Err(Error::Unsupported(_))));
        for wrong in
            ["1 month", "7 minutes", "2 days", "500 milliseconds", "0 seconds", "-1 minute", "soon", "1.5 seconds"]
        {
            let sql = format!("CREATE ROLLUP a ON t EVERY '{wrong}'");
            assert!(matches!(parse(&sql), Err(Error::InvalidArgument(_))), "{wrong}");
        }
        assert_eq!(width("1 day").expect("a day"), DAY_US);
    }
}
