//! `quote_ident`, `quote_literal`, `quote_nullable` and `format`: texts that can stand in SQL.
//!
//! **Invariant:** what they give reads back as the value that went in.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::functions::refusal::invalid;
use crate::text::texts;

/// `SELECT quote_ident('Usage')` gives `"Usage"`, `quote_literal('it''s')` gives `'it''s'`, `quote_nullable(NULL)` gives `NULL`, and
/// `format('%s: %I = %L', a, b, c)` puts such texts in place. Immutable.
pub(crate) fn all() -> [ScalarUDF; 4] {
    [Quote::Ident, Quote::Literal, Quote::Nullable, Quote::Format].map(|quote| {
        let signature = match quote {
            Quote::Format => Signature::variadic_any(Volatility::Immutable),
            _ => Signature::any(1, Volatility::Immutable),
        };
        ScalarUDF::new_from_impl(Quoting { quote, signature })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Quote {
    Ident,
    Literal,
    Nullable,
    Format,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quoting {
    quote: Quote,
    signature: Signature,
}

impl ScalarUDFImpl for Quoting {
    fn name(&self) -> &str {
        match self.quote {
            Quote::Ident => "quote_ident",
            Quote::Literal => "quote_literal",
            Quote::Nullable => "quote_nullable",
            Quote::Format => "format",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let columns = arrays.iter().map(texts).collect::<Result<Vec<_>, _>>()?;
        let rows = arrays.first().map_or(0, |array| array.len());
        let value = |index: usize, row: usize| columns[index].is_valid(row).then(|| columns[index].value(row));
        let quoted = (0..rows).map(|row| match (self.quote, value(0, row)) {
            (Quote::Nullable, None) => Ok(Some("NULL".to_owned())),
            (_, None) => Ok(None),
            (Quote::Ident, Some(text)) => Ok(Some(ident(text))),
            (Quote::Literal | Quote::Nullable, Some(text)) => Ok(Some(literal(text))),
            (Quote::Format, Some(text)) => {
                format(text, |index| (index < columns.len()).then(|| value(index, row))).map(Some)
            }
        });
        let quoted: ArrayRef = Arc::new(quoted.collect::<Result<StringArray>>()?);
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        Ok(if is_scalar && quoted.len() == 1 {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&quoted, 0)?)
        } else {
            ColumnarValue::Array(quoted)
        })
    }
}

/// An identifier, quoted where it must be.
pub(crate) fn ident(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `%s`, `%I`, `%L` and `%%`, with `%2$s` for an argument by its place. `argument` gives the argument at an index, the format being
/// at 0: none where there is no such argument, and a null as none within.
fn format<'a>(format: &str, argument: impl Fn(usize) -> Option<Option<&'a str>>) -> Result<String> {
    let (mut out, mut rest, mut next) = (String::new(), format, 1);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let index = match rest[..digits].parse::<usize>() {
            Ok(index) if rest[digits..].starts_with('$') => {
                rest = &rest[digits + 1..];
                index
            }
            _ => next,
        };
        next = index + 1;
        let value = argument(index).filter(|_| index > 0).ok_or_else(|| invalid("too few arguments for format()"))?;
        match rest.chars().next() {
            Some('s') => out.push_str(value.unwrap_or_default()),
            Some('I') => {
                out.push_str(&ident(
                    value.ok_or_else(|| invalid("null values cannot be formatted as an SQL identifier"))?,
                ));
            }
            Some('L') => out.push_str(&value.map_or("NULL".to_owned(), literal)),
            _ => {
                return Err(invalid(format!(
                    "unrecognized format() type specifier in \"{format}\": use %s, %I, %L or %%"
                )));
            }
        }
        rest = &rest[1..];
    }
    out.push_str(rest);
    Ok(out)
}
