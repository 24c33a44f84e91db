//! The functions of PostgreSQL's catalog whose answer is the same for everything: juno has one user, one encoding and no
//! comments, triggers, rules or row security.
//!
//! **Invariant:** nothing is looked up here; what needs the tables of the database is in `relation`.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

/// What everyone may and what everyone sees.
const YES: &[&str] = &[
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_table_privilege",
    "has_tablespace_privilege",
    "has_type_privilege",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_has_role",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_table_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
];

/// What is not so.
const NO: &[&str] =
    &["pg_is_in_recovery", "pg_is_other_temp_schema", "pg_relation_is_publishable", "row_security_active"];

/// Texts that nothing has.
const NOTHING: &[&str] = &[
    "col_description",
    "inet_client_addr",
    "inet_server_addr",
    "obj_description",
    "pg_describe_object",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_triggerdef",
    "pg_tablespace_location",
    "shobj_description",
];

/// Texts that are always the same.
const TEXTS: &[(&str, &str)] = &[
    ("getdatabaseencoding", "UTF8"),
    ("pg_client_encoding", "UTF8"),
    ("pg_encoding_to_char", "UTF8"),
    ("pg_get_userbyid", "postgres"),
];

/// Numbers that are always the same: the encoding UTF8.
const NUMBERS: &[(&str, i32)] = &[("pg_char_to_encoding", 6)];

/// All of them: any arguments. Immutable.
pub(crate) fn all() -> impl Iterator<Item = ScalarUDF> {
    let yes = YES.iter().map(|name| (*name, ScalarValue::from(true)));
    let no = NO.iter().map(|name| (*name, ScalarValue::from(false)));
    let nothing = NOTHING.iter().map(|name| (*name, ScalarValue::Utf8(None)));
    let texts = TEXTS.iter().map(|(name, text)| (*name, ScalarValue::from(*text)));
    let numbers = NUMBERS.iter().map(|(name, number)| (*name, ScalarValue::from(*number)));
    yes.chain(no).chain(nothing).chain(texts).chain(numbers).map(|(name, value)| {
        let takes = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        ScalarUDF::new_from_impl(Always { name, value, signature: Signature::one_of(takes, Volatility::Immutable) })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Always {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for Always {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}
