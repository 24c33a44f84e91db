//! What the JSON functions have in common: how they are declared, how they are called row by row, and what they give.
//!
//! **Invariant:** a constant argument is read once per batch; a declaration works on one row and sees no array.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, StringArray, StringBuilder, StructBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::schema_name_from_exprs;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::value::to_json;
use crate::functions::pg_typeof::name_of;
use crate::functions::refusal::{invalid, mismatch};
use crate::jsonb::Json;
use crate::types::TYPE_KEY;

/// A path into a value.
pub(super) type Path = Vec<Option<String>>;

/// What a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Gives {
    Json,
    Jsonb,
    Text,
    Boolean,
    Integer,
    Jsonbs,
    Texts,
    /// A list of (key, value), the value as JSON.
    Members,
    /// A list of (key, value), the value as text.
    MemberTexts,
}

/// What a function gives for one row.
pub(super) enum Out {
    Json(Json),
    Text(String),
    Boolean(bool),
    Integer(i32),
    Texts(Vec<Option<String>>),
    Members(Vec<(String, Option<String>)>),
}

/// One function.
#[derive(Clone, Copy)]
pub(super) struct Declared {
    pub(super) name: &'static str,
    /// The fewest arguments and the most.
    pub(super) args: (usize, usize),
    pub(super) gives: Gives,
    /// Whether null among the arguments gives null.
    pub(super) strict: bool,
    pub(super) eval: fn(&Row) -> Result<Option<Out>>,
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Declared {
    /// As a function of DataFusion's. Immutable.
    pub(super) fn function(self) -> ScalarUDF {
        ScalarUDF::new_from_impl(JsonFunction {
            declared: self,
            signature: Signature::one_of(
                vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
                Volatility::Immutable,
            ),
        })
    }
}

#[derive(Debug)]
struct JsonFunction {
    declared: Declared,
    signature: Signature,
}

impl PartialEq for JsonFunction {
    fn eq(&self, other: &Self) -> bool {
        self.declared.name == other.declared.name
    }
}

impl Eq for JsonFunction {}

impl std::hash::Hash for JsonFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.declared.name.hash(state);
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.declared.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let name = self.declared.name;
        if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Ok(format!("{name}({})", schema_name_from_exprs(args)?));
        }
        let side = |index: usize| schema_name_from_exprs(&args[index..=index]);
        Ok(format!("{} {name} {}", side(0)?, side(1)?))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let Declared { name, args: (least, most), gives, .. } = self.declared;
        if !(least..=most).contains(&types.len()) {
            let takes = if least == most { least.to_string() } else { format!("at least {least}") };
            return Err(mismatch(format!("{name} takes {takes} arguments and was given {}", types.len())));
        }
        Ok(data_type(gives))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.declared.name, self.return_type(&types)?, true);
        Ok(Arc::new(match self.declared.gives {
            Gives::Json => named(field, "json"),
            Gives::Jsonb => named(field, "jsonb"),
            _ => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let inputs = args.args.iter().zip(&args.arg_fields).map(|(arg, field)| Input::new(arg, field));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let rows = if is_scalar { 1 } else { args.number_rows };
        let outs = (0..rows).map(|row| {
            let row = Row { name: self.declared.name, inputs: &inputs, row };
            if self.declared.strict && (0..inputs.len()).any(|index| row.is_null(index)) {
                return Ok(None);
            }
            (self.declared.eval)(&row)
        });
        let array = collect(self.declared.gives, outs)?;
        Ok(if is_scalar {
            // The list as it is: made anew it would lose what its items are.
            ColumnarValue::Scalar(match array.as_list_opt::<i32>() {
                Some(list) => ScalarValue::List(Arc::new(list.clone())),
                None => ScalarValue::try_from_array(&array, 0)?,
            })
        } else {
            ColumnarValue::Array(array)
        })
    }
}

fn named(field: Field, kind: &str) -> Field {
    field.with_metadata([(TYPE_KEY.to_owned(), kind.to_owned())].into())
}

fn item(gives: Gives) -> Field {
    let value = |json: bool| {
        let field = Field::new("value", DataType::Utf8, true);
        if json { named(field, "jsonb") } else { field }
    };
    let member = |json| Fields::from(vec![Field::new("key", DataType::Utf8, true), value(json)]);
    match gives {
        Gives::Members => Field::new_list_field(DataType::Struct(member(true)), true),
        Gives::MemberTexts => Field::new_list_field(DataType::Struct(member(false)), true),
        Gives::Jsonbs => named(Field::new_list_field(DataType::Utf8, true), "jsonb"),
        _ => Field::new_list_field(DataType::Utf8, true),
    }
}

fn data_type(gives: Gives) -> DataType {
    match gives {
        Gives::Json | Gives::Jsonb | Gives::Text => DataType::Utf8,
        Gives::Boolean => DataType::Boolean,
        Gives::Integer => DataType::Int32,
        Gives::Jsonbs | Gives::Texts | Gives::Members | Gives::MemberTexts => DataType::List(Arc::new(item(gives))),
    }
}

fn collect(gives: Gives, outs: impl Iterator<Item = Result<Option<Out>>>) -> Result<ArrayRef> {
    let wrong = || invalid("a JSON function gave what it does not declare");
    Ok(match gives {
        Gives::Boolean => Arc::new(
            outs.map(|out| match out? {
                None => Ok(None),
                Some(Out::Boolean(value)) => Ok(Some(value)),
                Some(_) => Err(wrong()),
            })
            .collect::<Result<BooleanArray>>()?,
        ),
        Gives::Integer => Arc::new(
            outs.map(|out| match out? {
                None => Ok(None),
                Some(Out::Integer(value)) => Ok(Some(value)),
                Some(_) => Err(wrong()),
            })
            .collect::<Result<Int32Array>>()?,
        ),
        Gives::Json | Gives::Jsonb | Gives::Text => Arc::new(
            outs.map(|out| match out? {
                None => Ok(None),
                Some(Out::Json(value)) => Ok(Some(value.to_string())),
                Some(Out::Text(text)) => Ok(Some(text)),
                Some(_) => Err(wrong()),
            })
            .collect::<Result<StringArray>>()?,
        ),
        Gives::Jsonbs | Gives::Texts => {
            let mut lists = ListBuilder::new(StringBuilder::new()).with_field(item(gives));
            for out in outs {
                match out? {
                    None => lists.append_null(),
                    Some(Out::Texts(texts)) => lists.append_value(texts),
                    Some(_) => return Err(wrong()),
                }
            }
            Arc::new(lists.finish())
        }
        Gives::Members | Gives::MemberTexts => {
            let DataType::Struct(fields) = item(gives).data_type().clone() else { return Err(wrong()) };
            let builder = StructBuilder::from_fields(fields, 0);
            let mut lists = ListBuilder::new(builder).with_field(item(gives));
            for out in outs {
                match out? {
                    None => lists.append_null(),
                    Some(Out::Members(members)) => {
                        for (key, value) in members {
                            let row = lists.values();
                            row.field_builder::<StringBuilder>(0).ok_or_else(wrong)?.append_value(key);
                            row.field_builder::<StringBuilder>(1).ok_or_else(wrong)?.append_option(value);
                            row.append(true);
                        }
                        lists.append(true);
                    }
                    Some(_) => return Err(wrong()),
                }
            }
            Arc::new(lists.finish())
        }
    })
}

/// One argument of a call.
struct Input {
    array: ArrayRef,
    /// The array as text, where it is.
    texts: Option<StringArray>,
    field: FieldRef,
    is_scalar: bool,
    json: OnceCell<Json>,
}

impl Input {
    fn new(arg: &ColumnarValue, field: &FieldRef) -> Result<Input> {
        let (array, is_scalar) = match arg {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let is_text = match array.data_type() {
            DataType::Dictionary(_, value) => value.is_string(),
            other => other.is_string() || other.is_null(),
        };
        let texts = if is_text { Some(cast(&array, &DataType::Utf8)?.as_string::<i32>().clone()) } else { None };
        Ok(Input { array, texts, field: Arc::clone(field), is_scalar, json: OnceCell::new() })
    }
}

/// One row of the arguments.
pub(super) struct Row<'a> {
    name: &'static str,
    inputs: &'a [Input],
    row: usize,
}

impl Row<'_> {
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Where the row stands in the array of an argument.
    fn place(&self, index: usize) -> usize {
        if self.inputs[index].is_scalar { 0 } else { self.row }
    }

    pub(super) fn is_null(&self, index: usize) -> bool {
        let array = &self.inputs[index].array;
        array.data_type().is_null() || array.is_null(self.place(index))
    }

    pub(super) fn is_text(&self, index: usize) -> bool {
        self.inputs[index].texts.is_some()
    }

    fn wrong(&self, index: usize, wanted: &str) -> datafusion::common::DataFusionError {
        let given = name_of(self.inputs[index].field.data_type());
        mismatch(format!("argument {} of {} must be {wanted}, not {given}", index + 1, self.name))
    }

    /// An argument that is text; not null.
    pub(super) fn text(&self, index: usize) -> Result<&str> {
        let texts = self.inputs[index].texts.as_ref().ok_or_else(|| self.wrong(index, "text"))?;
        Ok(texts.value(self.place(index)))
    }

    /// An argument that is JSON; not null.
    pub(super) fn json(&self, index: usize) -> Result<Cow<'_, Json>> {
        let input = &self.inputs[index];
        if let Some(json) = input.json.get() {
            return Ok(Cow::Borrowed(json));
        }
        let texts = input.texts.as_ref().ok_or_else(|| self.wrong(index, "json or jsonb"))?;
        let json = Json::parse(texts.value(self.place(index)))?;
        Ok(if input.is_scalar { Cow::Borrowed(input.json.get_or_init(|| json)) } else { Cow::Owned(json) })
    }

    /// An argument that is an integer; not null.
    pub(super) fn integer(&self, index: usize) -> Result<i64> {
        let array = &self.inputs[index].array;
        if !array.data_type().is_integer() {
            return Err(self.wrong(index, "an integer"));
        }
        let one = cast(&array.slice(self.place(index), 1), &DataType::Int64)?;
        Ok(one.as_primitive::<Int64Type>().value(0))
    }

    /// An argument that is a boolean; not null.
    pub(super) fn boolean(&self, index: usize) -> Result<bool> {
        let array = self.inputs[index].array.as_boolean_opt().ok_or_else(|| self.wrong(index, "a boolean"))?;
        Ok(array.value(self.place(index)))
    }

    /// An argument that is a list of texts, or such a list in PostgreSQL's spelling: `{a,b}`; not null.
    pub(super) fn path(&self, index: usize) -> Result<Path> {
        if self.is_text(index) {
            return array_literal(self.text(index)?);
        }
        let Some(lists) = self.inputs[index].array.as_list_opt::<i32>() else {
            return Err(self.wrong(index, "an array of text"));
        };
        let items = cast(&lists.value(self.place(index)), &DataType::Utf8)?;
        Ok(items.as_string::<i32>().iter().map(|item| item.map(str::to_owned)).collect())
    }

    /// Any argument as JSON.
    pub(super) fn value(&self, index: usize) -> Result<Json> {
        let input = &self.inputs[index];
        to_json(&input.array, self.place(index), &input.field)
    }
}

/// The items of `{a,"b c",NULL}`.
pub(super) fn array_literal(text: &str) -> Result<Path> {
    let malformed = || invalid(format!("malformed array literal: \"{text}\""));
    let inside = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    let (mut items, mut rest) = (Vec::new(), inside.trim());
    while !rest.is_empty() {
        let (item, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let (mut item, mut chars) = (String::new(), quoted.char_indices());
            let end = loop {
                match chars.next().ok_or_else(malformed)? {
                    (_, '\\') => item.push(chars.next().ok_or_else(malformed)?.1),
                    (at, '"') => break at + 1,
                    (_, other) => item.push(other),
                }
            };
            (Some(item), quoted[end..].trim_start())
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let item = rest[..end].trim();
            if item.is_empty() {
                return Err(malformed());
            }
            ((!item.eq_ignore_ascii_case("null")).then(|| item.to_owned()), &rest[end..])
        };
        items.push(item);
        rest = match after.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => more.trim_start(),
            None if after.is_empty() => after,
            _ => return Err(malformed()),
        };
    }
    Ok(items)
}
