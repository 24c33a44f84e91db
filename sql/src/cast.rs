//! Casts to the types that are text underneath: `'{"a": 1}'::jsonb`, `'…'::uuid`, `payload::json`; and to text and bytes.
//!
//! DataFusion would cast text to text and check nothing, and spell other values its own way, so the statement layer turns such
//! casts into these functions.
//!
//! **Invariant:** immutable; null in, null out; bad text is an error, as in PostgreSQL.

mod planned;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, DataType as SqlType, Expr};

pub(crate) use self::planned::Rule as PlannedCasts;

use crate::types::TYPE_KEY;
use crate::{Error, Result, column, jsonb, text};

/// The function that stands for a cast to this type.
pub(crate) fn function_for(sql: &SqlType) -> Option<&'static str> {
    match sql {
        SqlType::JSONB => Some("cast_jsonb"),
        SqlType::JSON => Some("cast_json"),
        SqlType::Uuid => Some("cast_uuid"),
        SqlType::Bytea => Some("cast_bytea"),
        _ => None,
    }
}

/// A call of a function.
pub(crate) fn call(function: &str, arguments: impl IntoIterator<Item = Expr>) -> Expr {
    let argument = |argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |to| {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(CastText { to, signature }))
    };
    let checked = [To::Jsonb, To::Json, To::Uuid].map(function);
    let signature = Signature::variadic_any(Volatility::Immutable);
    let text = Arc::new(ScalarUDF::new_from_impl(CastToText { signature }));
    checked.into_iter().chain([text, to_bytes()]).collect()
}

fn to_bytes() -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(CastToBytes { signature }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum To {
    Jsonb,
    Json,
    Uuid,
}

impl To {
    /// The function's name and the type's.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            To::Jsonb => ("cast_jsonb", "jsonb"),
            To::Json => ("cast_json", "json"),
            To::Uuid => ("cast_uuid", "uuid"),
        }
    }

    fn check(self, text: &str) -> Result<String> {
        match self {
            To::Jsonb => jsonb::canonical(text),
            To::Json => jsonb::validate(text).map(|()| text.to_owned()),
            To::Uuid => column::uuid(text),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastText {
    to: To,
    signature: Signature,
}

impl ScalarUDFImpl for CastText {
    fn name(&self) -> &str {
        self.to.names().0
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let (function, kind) = self.to.names();
        let metadata = [(TYPE_KEY.to_owned(), kind.to_owned())].into();
        Ok(Arc::new(Field::new(function, DataType::Utf8, true).with_metadata(metadata)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let texts = cast(&args.args[0].to_array(rows)?, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let checked = texts
            .iter()
            .map(|text| text.map(|text| self.to.check(text)).transpose())
            .collect::<Result<StringArray>>()?;
        let checked: ArrayRef = Arc::new(checked);
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&checked, 0)?));
        }
        Ok(ColumnarValue::Array(checked))
    }
}

/// `time::text` and, with a length, `name::varchar(3)`, which cuts what is longer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CastToText {
    signature: Signature,
}

impl ScalarUDFImpl for CastToText {
    fn name(&self) -> &str {
        "cast_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let limit = match args.args.get(1) {
            Some(ColumnarValue::Scalar(limit)) => match limit.cast_to(&DataType::UInt64)? {
                ScalarValue::UInt64(limit) => limit.and_then(|limit| usize::try_from(limit).ok()),
                _ => None,
            },
            _ => None,
        };
        each(&args, |array| {
            let texts = text::texts(array)?;
            let Some(limit) = limit else { return Ok(Arc::new(texts)) };
            let cut = |text: &str| text.chars().take(limit).collect::<String>();
            Ok(Arc::new(texts.iter().map(|text| text.map(cut)).collect::<StringArray>()))
        })
    }
}

/// `'\\xdeadbeef'::bytea`, and any other text as its bytes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CastToBytes {
    signature: Signature,
}

impl ScalarUDFImpl for CastToBytes {
    fn name(&self) -> &str {
        "cast_bytea"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        each(&args, |array| {
            if matches!(array.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
                return Ok(cast(array, &DataType::Binary)?);
            }
            let texts = cast(array, &DataType::Utf8)?;
            let decoded = texts.as_string::<i32>().iter().map(|text| text.map(bytes).transpose());
            Ok(Arc::new(decoded.collect::<Result<Vec<_>>>()?.into_iter().collect::<BinaryArray>()))
        })
    }
}

/// Runs a function of one column over its argument, once where that is a constant.
fn each(
    args: &ScalarFunctionArgs,
    function: impl Fn(&ArrayRef) -> DataFusionResult<ArrayRef>,
) -> DataFusionResult<ColumnarValue> {
    Ok(match &args.args[0] {
        ColumnarValue::Array(array) => ColumnarValue::Array(function(array)?),
        ColumnarValue::Scalar(value) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&function(&value.to_array()?)?, 0)?)
        }
    })
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    let Some(digits) = text.strip_prefix("\\x") else { return Ok(text.as_bytes().to_vec()) };
    let invalid = || Error::InvalidText(format!("invalid hexadecimal data: \"{text}\""));
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(invalid());
    }
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| invalid());
    (0..digits.len()).step_by(2).map(pair).collect()
}
