//! COPY: what the statement says. Both of PostgreSQL's spellings are read, `WITH (FORMAT csv, …)` and `WITH CSV …`, and the
//! format `parquet` besides.
//!
//! **Invariant:** reads the statement's text and nothing else; bytes become rows, and rows bytes, in `server`.

use arrow::record_batch::RecordBatch;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::definition::folded;
use crate::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// PostgreSQL's text format: tabs, and backslashes before what would be misread.
    Text,
    /// Values by comma, quoted where needed.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
    /// A Parquet file.
    Parquet,
}

/// The first line of text and CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyHeader {
    /// There is none.
    None,
    /// Names, which are not looked at.
    Names,
    /// Names, which must be those of the columns.
    Match,
}

/// The columns that an option is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyColumns {
    /// Every column.
    All,
    /// Those named.
    Named(Vec<String>),
}

impl CopyColumns {
    /// Whether a column is one of them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            CopyColumns::All => true,
            CopyColumns::Named(names) => names.iter().any(|one| one == name),
        }
    }
}

/// The options of a COPY, with its format's defaults where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// How rows are written.
    pub format: CopyFormat,
    /// Between values.
    pub delimiter: u8,
    /// What stands for a null.
    pub null: String,
    /// The first line.
    pub header: CopyHeader,
    /// Around values of CSV.
    pub quote: u8,
    /// Before a quote inside quotes.
    pub escape: u8,
    /// Columns that are always quoted.
    pub force_quote: CopyColumns,
    /// Columns whose null text is a value.
    pub force_not_null: CopyColumns,
    /// Columns whose null text is a null in quotes too.
    pub force_null: CopyColumns,
}

/// Where the rows come from or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyPlace {
    /// The client: STDIN or STDOUT.
    Client,
    /// A file that the server reads or writes.
    File(String),
}

/// Rows of a COPY on their way in.
#[derive(Debug)]
pub struct CopyRows {
    /// The rows, with the columns of [`crate::CopyIn::schema`].
    pub rows: RecordBatch,
    /// The line of the input that each row begins on.
    pub lines: Vec<u64>,
}

/// A parsed COPY.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) subject: Subject,
    pub(crate) place: CopyPlace,
    pub(crate) options: CopyOptions,
}

/// What is copied.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// Rows into a table; no columns named means all.
    Into { table: ObjectName, columns: Vec<Ident> },
    /// The rows of a query.
    From(Box<Query>),
}

/// Reads a text that is one COPY.
///
/// # Errors
/// [`Error::Syntax`], [`Error::Unsupported`], and [`Error::InvalidArgument`] for options that do not fit.
pub(crate) fn parse(sql: &str) -> Result<Copy> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(sql)?;
    let copy = statement(&mut parser)?;
    while parser.consume_token(&Token::SemiColon) {}
    if parser.peek_token_ref().token == Token::EOF {
        return Ok(copy);
    }
    if parser.parse_keyword(Keyword::WHERE) {
        return Err(Error::Unsupported("COPY … WHERE is not supported".into()));
    }
    let after = parser.peek_token().token;
    Err(Error::Unsupported(format!("COPY must be the only statement of its message, and \"{after}\" follows it")))
}

fn statement(parser: &mut Parser<'_>) -> Result<Copy> {
    parser.expect_keyword(Keyword::COPY)?;
    let query = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Some(query)
    } else {
        None
    };
    let subject = match query {
        Some(query) => {
            parser.expect_keyword(Keyword::TO)?;
            Subject::From(query)
        }
        None => {
            let table = parser.parse_object_name(false)?;
            let columns = parser.parse_parenthesized_column_list(IsOptional::Optional, false)?;
            match parser.expect_one_of_keywords(&[Keyword::FROM, Keyword::TO])? {
                Keyword::FROM => Subject::Into { table, columns },
                _ => Subject::From(table_query(&table, &columns)?),
            }
        }
    };
    let into = matches!(subject, Subject::Into { .. });
    let place = place(parser, into)?;
    let given = options(parser)?;
    Ok(Copy { subject, place, options: settled(given, into)? })
}

/// `COPY t (a, b) TO` is a query like any other.
fn table_query(table: &ObjectName, columns: &[Ident]) -> Result<Box<Query>> {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
    let sql = format!("SELECT {columns} FROM {table}");
    Ok(Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql)?.parse_query()?)
}

fn place(parser: &mut Parser<'_>, into: bool) -> Result<CopyPlace> {
    let client = if into { Keyword::STDIN } else { Keyword::STDOUT };
    if parser.parse_keyword(client) {
        return Ok(CopyPlace::Client);
    }
    if parser.parse_keyword(Keyword::PROGRAM) {
        return Err(Error::Unsupported("COPY … PROGRAM is not supported: juno runs no programs for clients".into()));
    }
    Ok(CopyPlace::File(parser.parse_literal_string()?))
}

/// An option as it was written.
struct Given {
    name: String,
    value: Value,
}

enum Value {
    None,
    Text(String),
    Columns(CopyColumns),
}

fn options(parser: &mut Parser<'_>) -> Result<Vec<Given>> {
    let mut given = Vec::new();
    let with = parser.parse_keyword(Keyword::WITH);
    if parser.consume_token(&Token::LParen) {
        loop {
            let name = parser.parse_identifier()?.value.to_lowercase();
            let value = value(parser)?;
            given.push(Given { name, value });
            if !parser.consume_token(&Token::Comma) {
                parser.expect_token(&Token::RParen)?;
                return Ok(given);
            }
        }
    }
    while let Some(one) = legacy(parser)? {
        given.push(one);
    }
    if with && given.is_empty() {
        return Err(Error::Syntax("syntax error: options must follow WITH".into()));
    }
    Ok(given)
}

/// A value of the list form: a text, a word, a number, `*`, or names in parentheses.
fn value(parser: &mut Parser<'_>) -> Result<Value> {
    if parser.consume_token(&Token::Mul) {
        return Ok(Value::Columns(CopyColumns::All));
    }
    if parser.peek_token_ref().token == Token::LParen {
        return Ok(Value::Columns(names(parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?)));
    }
    Ok(match parser.peek_token().token {
        Token::Comma | Token::RParen => Value::None,
        Token::Word(word) => {
            parser.next_token();
            Value::Text(word.value)
        }
        Token::Number(number, _) => {
            parser.next_token();
            Value::Text(number)
        }
        _ => Value::Text(parser.parse_literal_string()?),
    })
}

/// One option of PostgreSQL's older form; None where there is no further one.
fn legacy(parser: &mut Parser<'_>) -> Result<Option<Given>> {
    let Token::Word(word) = parser.peek_token().token else { return Ok(None) };
    let name = word.value.to_lowercase();
    let plain = |name: &str, value| Ok(Some(Given { name: name.into(), value }));
    match name.as_str() {
        "binary" | "csv" => {
            parser.next_token();
            plain("format", Value::Text(name))
        }
        "header" => {
            parser.next_token();
            plain("header", Value::None)
        }
        "delimiter" | "delimiters" | "null" | "quote" | "escape" | "encoding" => {
            parser.next_token();
            let _ = parser.parse_keyword(Keyword::AS);
            let name = if name == "delimiters" { "delimiter" } else { &name };
            plain(name, Value::Text(parser.parse_literal_string()?))
        }
        "force" => {
            parser.next_token();
            let name = match parser.parse_identifier()?.value.to_lowercase().as_str() {
                "quote" => "force_quote",
                "null" => "force_null",
                "not" if parser.parse_keyword(Keyword::NULL) => "force_not_null",
                other => return Err(Error::Syntax(format!("syntax error at \"{other}\" after FORCE"))),
            };
            if parser.consume_token(&Token::Mul) {
                return plain(name, Value::Columns(CopyColumns::All));
            }
            let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
            plain(name, Value::Columns(names(columns)))
        }
        _ => Ok(None),
    }
}

fn names(columns: Vec<Ident>) -> CopyColumns {
    CopyColumns::Named(columns.iter().map(folded).collect())
}

/// The options with everything checked and every default in place.
fn settled(given: Vec<Given>, into: bool) -> Result<CopyOptions> {
    let mut seen: Vec<&str> = Vec::new();
    for one in &given {
        if seen.contains(&one.name.as_str()) {
            return Err(Error::Syntax(format!("conflicting or redundant options: \"{}\" is given twice", one.name)));
        }
        seen.push(&one.name);
    }
    let format = match given.iter().find(|one| one.name == "format") {
        None => CopyFormat::Text,
        Some(one) => format(&text_of(one)?)?,
    };
    let csv = format == CopyFormat::Csv;
    let mut options = CopyOptions {
        format,
        delimiter: if csv { b',' } else { b'\t' },
        null: if csv { String::new() } else { "\\N".to_owned() },
        header: CopyHeader::None,
        quote: b'"',
        escape: b'"',
        force_quote: CopyColumns::Named(Vec::new()),
        force_not_null: CopyColumns::Named(Vec::new()),
        force_null: CopyColumns::Named(Vec::new()),
    };
    if let Some(quote) = given.iter().find(|one| one.name == "quote") {
        options.quote = character(quote)?;
        options.escape = options.quote;
    }
    for one in &given {
        needs(one, format, into)?;
        match one.name.as_str() {
            "delimiter" => options.delimiter = character(one)?,
            "null" => options.null = text_of(one)?,
            "header" => options.header = header(one, into)?,
            "escape" => options.escape = character(one)?,
            "force_quote" => options.force_quote = columns_of(one)?,
            "force_not_null" => options.force_not_null = columns_of(one)?,
            "force_null" => options.force_null = columns_of(one)?,
            _ => {}
        }
    }
    checked(options)
}

/// Refuses an option that its format or direction does not have.
fn needs(one: &Given, format: CopyFormat, into: bool) -> Result<()> {
    let refused = |what: &str| Err(Error::Unsupported(format!("COPY {} {what}", one.name.to_uppercase())));
    let textual = matches!(format, CopyFormat::Text | CopyFormat::Csv);
    match one.name.as_str() {
        "format" => Ok(()),
        // Nothing here is slower for rows that others see at once.
        "freeze" if into => Ok(()),
        "encoding" => match text_of(one)?.to_lowercase().replace('-', "").as_str() {
            "utf8" | "unicode" => Ok(()),
            other => Err(Error::Unsupported(format!("COPY reads and writes UTF8, not \"{other}\""))),
        },
        "on_error" if into => match text_of(one)?.as_str() {
            "stop" => Ok(()),
            _ => refused("takes only stop: a COPY stores all its rows or none"),
        },
        "delimiter" | "null" | "header" if textual => Ok(()),
        "delimiter" | "null" | "header" => refused("is for the formats text and csv"),
        "quote" | "escape" if format == CopyFormat::Csv => Ok(()),
        "force_quote" if format == CopyFormat::Csv && !into => Ok(()),
        "force_not_null" | "force_null" if format == CopyFormat::Csv && into => Ok(()),
        "quote" | "escape" => refused("is for the format csv"),
        "force_quote" => refused("is for COPY … TO in the format csv"),
        "force_not_null" | "force_null" => refused("is for COPY … FROM in the format csv"),
        other => Err(Error::Syntax(format!("option \"{other}\" not recognized"))),
    }
}

fn checked(options: CopyOptions) -> Result<CopyOptions> {
    let bad = |text: String| Err(Error::InvalidArgument(text));
    let delimiter = char::from(options.delimiter);
    let ambiguous = "\\.abcdefghijklmnopqrstuvwxyz0123456789";
    if matches!(delimiter, '\n' | '\r')
        || options.format == CopyFormat::Text && ambiguous.contains(delimiter)
        || options.format == CopyFormat::Csv && options.delimiter == options.quote
    {
        return bad(format!("COPY delimiter cannot be \"{}\"", delimiter.escape_default()));
    }
    if options.null.contains(['\n', '\r']) || options.null.contains(delimiter) {
        return bad("COPY null representation cannot hold a line's end or the delimiter".into());
    }
    if options.format == CopyFormat::Csv && options.null.contains(char::from(options.quote)) {
        return bad("CSV quote character must not appear in the NULL specification".into());
    }
    Ok(options)
}

fn format(name: &str) -> Result<CopyFormat> {
    Ok(match name.to_lowercase().as_str() {
        "text" => CopyFormat::Text,
        "csv" => CopyFormat::Csv,
        "binary" => CopyFormat::Binary,
        "parquet" => CopyFormat::Parquet,
        other => {
            let text = format!("COPY format \"{other}\" not recognized: there are text, csv, binary and parquet");
            return Err(Error::InvalidArgument(text));
        }
    })
}

fn header(one: &Given, into: bool) -> Result<CopyHeader> {
    let text = match &one.value {
        Value::None => return Ok(CopyHeader::Names),
        _ => text_of(one)?.to_lowercase(),
    };
    match text.as_str() {
        "true" | "on" | "1" => Ok(CopyHeader::Names),
        "false" | "off" | "0" => Ok(CopyHeader::None),
        "match" if into => Ok(CopyHeader::Match),
        other => Err(Error::InvalidArgument(format!("header takes true, false or, FROM, match, not \"{other}\""))),
    }
}

fn text_of(one: &Given) -> Result<String> {
    match &one.value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(Error::Syntax(format!("{} requires a parameter", one.name))),
    }
}

fn columns_of(one: &Given) -> Result<CopyColumns> {
    match &one.value {
        Value::Columns(columns) => Ok(columns.clone()),
        _ => Err(Error::Syntax(format!("{} takes columns in parentheses, or *", one.name))),
    }
}

/// An option that takes one single-byte character.
fn character(one: &Given) -> Result<u8> {
    match text_of(one)?.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::InvalidArgument(format!("COPY {} must be a single one-byte character", one.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_say_the_same() {
        let list = "COPY t (a, \"B\") FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'nil', FORCE_NULL (a));";
        let words =
            "-- as old scripts do\ncopy t(a,\"B\") from stdin with csv header delimiter as ';' null 'nil' force null a";
        let (list, words) = (parse(list).expect("a list"), parse(words).expect("words"));
        assert_eq!(list.options, words.options);
        assert_eq!((list.options.delimiter, list.options.header), (b';', CopyHeader::Names));
        assert!(list.options.force_null.has("a") && !list.options.force_null.has("b"));
        assert!(matches!(list.subject, Subject::Into { columns, .. } if columns.len() == 2));
    }

    #[test]
    fn a_table_and_a_query_can_be_copied_out() {
        let table = parse("COPY public.t TO STDOUT (FORMAT binary)").expect("a table");
        assert!(matches!(table.subject, Subject::From(query) if query.to_string() == "SELECT * FROM public.t"));
        let query = parse("COPY (SELECT 1 AS a; ) TO 'x.parquet' (FORMAT parquet)");
        assert!(matches!(query, Err(Error::Syntax(_))));
        let query = parse("COPY (SELECT 1 AS a) TO 'x.parquet' (FORMAT parquet)").expect("a query");
        assert_eq!((query.place, query.options.format), (CopyPlace::File("x.parquet".into()), CopyFormat::Parquet));
    }

    #[test]
    fn options_that_do_not_fit_are_refused() {
        for (sql, wanted) in [
            ("COPY t FROM STDIN (FORMAT json)", "not recognized"),
            ("COPY t FROM STDIN (FORCE_QUOTE *, FORMAT csv)", "COPY … TO"),
            ("COPY t FROM STDIN (QUOTE 'x')", "format csv"),
            ("COPY t FROM STDIN (DELIMITER 'ab')", "one-byte"),
            ("COPY t FROM STDIN (DELIMITER 'a')", "delimiter cannot be"),
            ("COPY t FROM STDIN (FORMAT csv, FORMAT csv)", "twice"),
            ("COPY t FROM STDIN WHERE a > 1", "WHERE"),
            ("COPY t FROM PROGRAM 'rm'", "no programs"),
            ("COPY t FROM STDIN; SELECT 1", "only statement"),
            ("COPY t FROM STDOUT", "STDOUT"),
        ] {
            let error = parse(sql).expect_err(sql).to_string();
            assert!(error.contains(wanted), "{sql}: {error}");
        }
    }
}
