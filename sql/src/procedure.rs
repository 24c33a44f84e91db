//! Procedures: what CALL runs, with arguments by position or by name.
//!
//! **Invariant:** a procedure sees values, never SQL; effects on the world happen here and nowhere in planning.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};
use juno_engine::Db;

use crate::{Error, Result};

/// A procedure that CALL can name.
#[derive(Debug)]
pub(crate) struct Procedure {
    pub(crate) name: &'static str,
    /// Parameter names in order; all are optional.
    pub(crate) parameters: &'static [&'static str],
    columns: &'static [(&'static str, DataType)],
    run: Run,
}

/// From the database and the arguments in the order of the parameters to the result's columns.
type Run = fn(&Db, &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>>;

/// Every procedure.
const PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "flush",
        parameters: &["table"],
        columns: &[
            ("table", DataType::Utf8),
            ("rows", DataType::Int64),
            ("parts", DataType::Int64),
            ("bytes", DataType::Int64),
        ],
        run: flush,
    },
    Procedure {
        name: "compact",
        parameters: &["table"],
        columns: &[
            ("table", DataType::Utf8),
            ("merged", DataType::Int64),
            ("parts", DataType::Int64),
            ("rows", DataType::Int64),
            ("bytes", DataType::Int64),
        ],
        run: compact,
    },
];

/// `CALL flush(table => 'cpu')`: writes what is in memory to parts, of one table or of all, and says what was written.
fn flush(db: &Db, arguments: &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>> {
    let table = text(arguments, 0, "table")?;
    let reports = db.flush(table.as_deref())?;
    let count = |of: fn(&juno_engine::FlushReport) -> u64| -> ArrayRef {
        Arc::new(reports.iter().map(|report| i64::try_from(of(report)).ok()).collect::<Int64Array>())
    };
    let tables: StringArray = reports.iter().map(|report| Some(report.table.as_str())).collect();
    Ok(vec![Arc::new(tables), count(|r| r.rows), count(|r| r.parts as u64), count(|r| r.bytes)])
}

/// `CALL compact(table => 'cpu')`: merges parts, of one table or of all, until nothing is left to merge, and says how many
/// were merged into how many.
fn compact(db: &Db, arguments: &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>> {
    let table = text(arguments, 0, "table")?;
    let reports = db.compact(table.as_deref())?;
    let count = |of: fn(&juno_engine::CompactionReport) -> u64| -> ArrayRef {
        Arc::new(reports.iter().map(|report| i64::try_from(of(report)).ok()).collect::<Int64Array>())
    };
    let tables: StringArray = reports.iter().map(|report| Some(report.table.as_str())).collect();
    let (merged, parts) = (count(|r| r.merged as u64), count(|r| r.parts as u64));
    Ok(vec![Arc::new(tables), merged, parts, count(|r| r.rows), count(|r| r.bytes)])
}

fn text(arguments: &[Option<ScalarValue>], index: usize, name: &str) -> Result<Option<String>> {
    match arguments.get(index).and_then(Option::as_ref) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.try_as_str() {
            Some(text) => Ok(text.map(str::to_owned)),
            None => Err(Error::InvalidArgument(format!("argument \"{name}\" must be text, not {value}"))),
        },
    }
}

/// A call with each argument's place found.
pub(crate) struct Call {
    pub(crate) procedure: &'static Procedure,
    /// For each expression given, which parameter it is for.
    pub(crate) places: Vec<usize>,
    /// The expressions given.
    pub(crate) arguments: Vec<Expr>,
}

impl Call {
    /// The procedure that a CALL names, with its arguments matched.
    pub(crate) fn resolve(function: &Function) -> Result<Self> {
        let name = function.name.to_string().to_lowercase();
        let name = name.trim_start_matches("public.");
        let procedure = PROCEDURES.iter().find(|procedure| procedure.name == name).ok_or_else(|| {
            let known: Vec<&str> = PROCEDURES.iter().map(|procedure| procedure.name).collect();
            Error::UndefinedFunction(format!("procedure {name} does not exist; there is {}", known.join(", ")))
        })?;
        let mut call = Call { procedure, places: Vec::new(), arguments: Vec::new() };
        let given: &[FunctionArg] = match &function.args {
            FunctionArguments::List(list) => &list.args,
            FunctionArguments::None => &[],
            FunctionArguments::Subquery(_) => {
                return Err(Error::InvalidArgument("CALL takes values, not a sub-query".into()));
            }
        };
        for argument in given {
            call.place(argument)?;
        }
        Ok(call)
    }

    fn place(&mut self, argument: &FunctionArg) -> Result<()> {
        let parameters = self.procedure.parameters;
        let (place, value) = match argument {
            FunctionArg::Unnamed(value) => (self.arguments.len(), value),
            FunctionArg::Named { name, arg, .. } => (self.named(&name.value)?, arg),
            FunctionArg::ExprNamed { name, arg, .. } => (self.named(&name.to_string())?, arg),
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(Error::InvalidArgument(format!("\"{value}\" is no argument of {}", self.procedure.name)));
        };
        if place >= parameters.len() || self.places.contains(&place) {
            let text = format!("procedure {} takes {} once each", self.procedure.name, parameters.join(", "));
            return Err(Error::UndefinedFunction(text));
        }
        self.places.push(place);
        self.arguments.push(value.clone());
        Ok(())
    }

    fn named(&self, name: &str) -> Result<usize> {
        let parameters = self.procedure.parameters;
        parameters.iter().position(|parameter| parameter.eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::UndefinedFunction(format!(
                "procedure {} has no argument \"{name}\"; it has {}",
                self.procedure.name,
                parameters.join(", ")
            ))
        })
    }
}

impl Procedure {
    /// The columns of the result.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        Arc::new(Schema::new(fields))
    }

    /// Runs it; blocks until the effect is there.
    pub(crate) fn run(&self, db: &Db, arguments: &[Option<ScalarValue>]) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(self.schema(), (self.run)(db, arguments)?)?)
    }
}
