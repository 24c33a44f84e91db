//! Detectors: what judges the points of a column as they are committed, and keeps the judgements in a table of the same name.
//!
//! ```sql
//! CREATE DETECTOR [IF NOT EXISTS] name ON table (column) [WITH (warm_up = 288, false_alarms = 0.1)]
//! DROP DETECTOR [IF EXISTS] name [, …]
//! ```
//!
//! The table has the time and the tags of the one it watches, and `value`, `score`, `p_value`, `kind` and `is_alarm` as the
//! function `anomalies` gives them.
//!
//! **Invariant:** parsing is pure; a detector writes to its own table and to no other.

pub(crate) mod judge;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod survey;
pub(crate) mod work;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use juno_kernels::record_ratio::Params;

use crate::definition::{check_name, folded, table_name};
use crate::statement::own::{self, near};
use crate::{Error, Result};

/// Where detectors are kept.
pub(crate) const TABLE: &str = "juno_detectors";
/// The columns that a detector's table has besides time and tags.
pub(crate) const RESULTS: [&str; 5] = ["value", "score", "p_value", "kind", "is_alarm"];
/// False alarms per series and day, unless said otherwise.
pub(crate) const FALSE_ALARMS: f64 = 0.1;
const FALSE_ALARMS_MAX: f64 = 1e6;
const DAY_US: f64 = 86_400e6;

/// How many points a day has, by the median step; one where there is none.
pub(crate) fn points_per_day(mut steps_us: Vec<i64>) -> f64 {
    if steps_us.is_empty() {
        return 1.0;
    }
    let half = steps_us.len() / 2;
    DAY_US / (*steps_us.select_nth_unstable(half).1).max(1) as f64
}

/// What watches one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detector {
    /// Its name and that of its table.
    pub(crate) name: String,
    /// The table that is watched.
    pub(crate) table: String,
    /// The column that is watched.
    pub(crate) column: String,
    /// Points of each series that only teach.
    pub(crate) warm_up: usize,
    /// The budget per series and day.
    pub(crate) false_alarms: f64,
}

impl Detector {
    /// How its kernel is set up.
    pub(crate) fn params(&self) -> Params {
        Params { warm_up: self.warm_up }
    }

    /// Refuses settings that no detector can have.
    pub(crate) fn check(&self) -> Result<()> {
        self.params().state().map_err(|error| Error::InvalidArgument(format!("warm_up: {error}")))?;
        if !(self.false_alarms > 0.0 && self.false_alarms <= FALSE_ALARMS_MAX) {
            return Err(Error::InvalidArgument(format!(
                "false_alarms must be a number of alarms per series and day above 0 and up to {FALSE_ALARMS_MAX}, not {}",
                self.false_alarms
            )));
        }
        Ok(())
    }
}

/// A statement about detectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DetectorStatement {
    Create { detector: Detector, if_not_exists: bool },
    Drop { names: Vec<String>, if_exists: bool },
}

impl DetectorStatement {
    /// The command tag.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            DetectorStatement::Create { .. } => "CREATE DETECTOR",
            DetectorStatement::Drop { .. } => "DROP DETECTOR",
        }
    }
}

/// The statement of a text that begins as one about detectors.
pub(crate) fn parse(sql: &str) -> Result<DetectorStatement> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql)?;
    let creates = parser.next_token().to_string().eq_ignore_ascii_case("create");
    parser.next_token();
    let statement = if creates { create(&mut parser)? } else { drop_detectors(&mut parser)? };
    own::ends(&mut parser, statement.tag())?;
    Ok(statement)
}

fn create(parser: &mut Parser<'_>) -> Result<DetectorStatement> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = name(parser)?;
    parser.expect_keyword(Keyword::ON)?;
    let table = table_name(&parser.parse_object_name(false)?)?;
    parser.expect_token(&Token::LParen)?;
    let column = folded(&parser.parse_identifier()?);
    if parser.peek_token().token == Token::Comma {
        return Err(Error::Syntax("syntax error: a detector watches one column; make one for each".into()));
    }
    parser.expect_token(&Token::RParen)?;
    let warm_up = Params::default().warm_up;
    let mut detector = Detector { name, table, column, warm_up, false_alarms: FALSE_ALARMS };
    if parser.parse_keyword(Keyword::WITH) {
        parser.expect_token(&Token::LParen)?;
        option(parser, &mut detector)?;
        while parser.consume_token(&Token::Comma) {
            option(parser, &mut detector)?;
        }
        parser.expect_token(&Token::RParen)?;
    }
    detector.check()?;
    Ok(DetectorStatement::Create { detector, if_not_exists })
}

/// One setting of WITH.
fn option(parser: &mut Parser<'_>, detector: &mut Detector) -> Result<()> {
    let key = folded(&parser.parse_identifier()?);
    parser.expect_token(&Token::Eq)?;
    let negative = parser.consume_token(&Token::Minus);
    let token = parser.next_token().token;
    let text = match &token {
        Token::Number(text, _) | Token::SingleQuotedString(text) => text,
        other => return Err(near(other)),
    };
    let wrong = || Error::InvalidArgument(format!("{key} must be a number, not '{text}'"));
    let number: f64 = text.trim().parse().map_err(|_| wrong())?;
    let number = if negative { -number } else { number };
    match key.as_str() {
        "warm_up" if number.fract() == 0.0 && (0.0..1e9).contains(&number) => {
            #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "whole and in range")]
            let points = number as usize;
            detector.warm_up = points;
        }
        "warm_up" => {
            return Err(Error::InvalidArgument(format!("warm_up must be a whole number of points, not {text}")));
        }
        "false_alarms" => detector.false_alarms = number,
        other => {
            let text = format!("unrecognized option \"{other}\": a detector has warm_up and false_alarms");
            return Err(Error::InvalidArgument(text));
        }
    }
    Ok(())
}

fn drop_detectors(parser: &mut Parser<'_>) -> Result<DetectorStatement> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let mut names = vec![name(parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(name(parser)?);
    }
    Ok(DetectorStatement::Drop { names, if_exists })
}

fn name(parser: &mut Parser<'_>) -> Result<String> {
    let name: ObjectName = parser.parse_object_name(false)?;
    let name = table_name(&name)?;
    check_name(&name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read_and_settings_checked() {
        let one = |sql: &str| parse(sql).expect(sql);
        let detector = |warm_up, false_alarms| Detector {
            name: "odd".into(),
            table: "cpu".into(),
            column: "usage".into(),
            warm_up,
            false_alarms,
        };
        let create = |detector, if_not_exists| DetectorStatement::Create { detector, if_not_exists };
        assert_eq!(one("CREATE DETECTOR odd ON cpu (usage)"), create(detector(288, 0.1), false));
        let spelt = "create detector if not exists public.Odd on public.CPU (\"usage\") with (warm_up = 64, false_alarms = '2');";
        assert_eq!(one(spelt), create(detector(64, 2.0), true));
        let dropped = DetectorStatement::Drop { names: vec!["a".into(), "b".into()], if_exists: true };
        assert_eq!(one("DROP DETECTOR IF EXISTS a, b"), dropped);
        for odd in ["CREATE DETECTOR", "CREATE DETECTOR a ON t", "CREATE DETECTOR a ON t (b, c)", "DROP DETECTOR a + b"]
        {
            assert!(matches!(parse(odd), Err(Error::Syntax(_))), "{odd}");
        }
        for wrong in ["warm_up = 2", "warm_up = 1.5", "false_alarms = -1", "false_alarms = 'x'", "colour = 1"] {
            let sql = format!("CREATE DETECTOR a ON t (b) WITH ({wrong})");
            assert!(matches!(parse(&sql), Err(Error::InvalidArgument(_))), "{wrong}");
        }
    }
}
