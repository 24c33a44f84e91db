//! `gen_random_uuid()`: a new UUID for every row.
//!
//! **Invariant:** takes time and randomness from the engine's `System` alone.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use juno_engine::system::System;

use crate::types::TYPE_KEY;

/// `INSERT INTO healing_incidents (id, …) VALUES (gen_random_uuid(), …)` gives UUIDs of version 7, which ascend in time.
/// Volatile, no arguments.
pub(crate) fn gen_random_uuid(system: &System) -> ScalarUDF {
    let signature = Signature::nullary(Volatility::Volatile);
    ScalarUDF::new_from_impl(GenRandomUuid { system: system.clone(), signature })
}

#[derive(Debug)]
struct GenRandomUuid {
    system: System,
    signature: Signature,
}

impl PartialEq for GenRandomUuid {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for GenRandomUuid {}

impl Hash for GenRandomUuid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for GenRandomUuid {
    fn name(&self) -> &str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        let metadata = [(TYPE_KEY.to_owned(), "uuid".to_owned())].into();
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, false).with_metadata(metadata)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let uuids = (0..args.number_rows).map(|_| self.system.uuid_v7().to_string());
        Ok(ColumnarValue::Array(Arc::new(StringArray::from_iter_values(uuids))))
    }
}
