//! Casts to the types that are text underneath: `'{"a": 1}'::jsonb`, `'…'::uuid`, `payload::json`.
//!
//! DataFusion would cast text to text and check nothing, so the statement layer turns such casts into these functions.
//!
//! **Invariant:** immutable functions of one text each; null in, null out; bad text is an error, as in PostgreSQL.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, DataType as SqlType, Expr};

use crate::types::TYPE_KEY;
use crate::{Result, column, jsonb};

/// The function that stands for a cast to this type.
pub(crate) fn function_for(sql: &SqlType) -> Option<&'static str> {
    match sql {
        SqlType::JSONB => Some("cast_jsonb"),
        SqlType::JSON => Some("cast_json"),
        SqlType::Uuid => Some("cast_uuid"),
        _ => None,
    }
}

/// The call that replaces the cast.
pub(crate) fn call(function: &str, argument: Expr) -> Expr {
    let argument = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument],
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
    [To::Jsonb, To::Json, To::Uuid].map(function).into()
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
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&checked, 0)?));
        }
        Ok(ColumnarValue::Array(checked))
    }
}
