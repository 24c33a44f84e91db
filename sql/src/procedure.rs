//! Procedures: what CALL runs, with arguments by position or by name.
//!
//! **Invariant:** a procedure sees values, never SQL; effects on the world happen here and nowhere in planning.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments};
use juno_engine::{Damage, Db};
use serde_json::Value;

use crate::operation::{self, Operation, Request};
use crate::ops::OPERATIONS;
use crate::place::place;
use crate::role::{Role, User};
use crate::session::objects;
use crate::{Error, Result};

/// A procedure that CALL can name.
#[derive(Debug)]
pub(crate) struct Procedure {
    pub(crate) name: &'static str,
    /// Parameter names in order; those that are not optional the procedure asks for.
    pub(crate) parameters: &'static [&'static str],
    /// The role that may call it.
    role: Role,
    columns: &'static [(&'static str, DataType)],
    pub(crate) run: Run,
}

/// Columns of one result, from the arguments.
type EngineCall = fn(&Db, &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>>;

/// How a procedure gets from its arguments, in the order of the parameters, to the result's columns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// With the database; blocks until the effect is there.
    Engine(EngineCall),
    /// Waits until detectors have judged what is committed.
    CatchUp,
    /// With a session, which reads the rows and keeps the models.
    Model(ModelWork),
}

/// What is done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelWork {
    Train,
    Calibrate,
    Evaluate,
    Promote,
    Rollback,
    Export,
    Import,
    Drop,
}

/// The columns that procedures answer with which make or choose a version of a model.
const VERSION_COLUMNS: &[(&str, DataType)] = &[
    ("name", DataType::Utf8),
    ("version", DataType::Int32),
    ("active", DataType::Boolean),
    ("rows", DataType::Int64),
    ("attacks", DataType::Int64),
    ("schema_hash", DataType::Utf8),
    ("checksum", DataType::Utf8),
];

/// Every procedure.
const PROCEDURES: &[Procedure] = &[
    Procedure {
        name: "flush",
        parameters: &["table"],
        role: Role::Operator,
        columns: &[
            ("table", DataType::Utf8),
            ("rows", DataType::Int64),
            ("parts", DataType::Int64),
            ("bytes", DataType::Int64),
        ],
        run: Run::Engine(flush),
    },
    Procedure {
        name: "compact",
        parameters: &["table"],
        role: Role::Operator,
        columns: &[
            ("table", DataType::Utf8),
            ("merged", DataType::Int64),
            ("parts", DataType::Int64),
            ("rows", DataType::Int64),
            ("bytes", DataType::Int64),
        ],
        run: Run::Engine(compact),
    },
    Procedure {
        name: "catch_up",
        parameters: &["detector"],
        role: Role::Operator,
        columns: &[("detector", DataType::Utf8), ("points", DataType::Int64), ("alarms", DataType::Int64)],
        run: Run::CatchUp,
    },
    Procedure {
        name: "check",
        parameters: &[],
        role: Role::Admin,
        columns: &[
            ("object", DataType::Utf8),
            ("parts", DataType::Int64),
            ("rows", DataType::Int64),
            ("bytes", DataType::Int64),
            ("damage", DataType::Utf8),
        ],
        run: Run::Engine(check),
    },
    Procedure {
        name: "backup",
        parameters: &["path"],
        role: Role::Admin,
        columns: &[
            ("path", DataType::Utf8),
            ("tables", DataType::Int64),
            ("parts", DataType::Int64),
            ("bytes", DataType::Int64),
            ("commit", DataType::Int64),
        ],
        run: Run::Engine(backup),
    },
    Procedure {
        name: "train_threat_model",
        parameters: &["name", "source", "label", "features", "ordinary", "trees", "novelty", "calibration", "seed"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Train),
    },
    Procedure {
        name: "calibrate_threat_model",
        parameters: &["name", "source"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Calibrate),
    },
    Procedure {
        name: "evaluate_threat_model",
        parameters: &["name", "source", "label", "ordinary"],
        role: Role::Operator,
        columns: &[
            ("name", DataType::Utf8),
            ("version", DataType::Int32),
            ("rows", DataType::Int64),
            ("attacks", DataType::Int64),
            ("auc", DataType::Float64),
            ("found_at_1_percent", DataType::Float64),
            ("found_at_2_percent", DataType::Float64),
            ("found_at_5_percent", DataType::Float64),
            ("false_alarms_at_threshold", DataType::Float64),
            ("found_at_threshold", DataType::Float64),
            ("drift", DataType::Boolean),
        ],
        run: Run::Model(ModelWork::Evaluate),
    },
    Procedure {
        name: "promote_model",
        parameters: &["name", "version"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Promote),
    },
    Procedure {
        name: "rollback_model",
        parameters: &["name"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Rollback),
    },
    Procedure {
        name: "export_model",
        parameters: &["name", "version"],
        role: Role::Operator,
        columns: &[
            ("name", DataType::Utf8),
            ("version", DataType::Int32),
            ("checksum", DataType::Utf8),
            ("artefact", DataType::Binary),
        ],
        run: Run::Model(ModelWork::Export),
    },
    Procedure {
        name: "import_model",
        parameters: &["name", "artefact"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Import),
    },
    Procedure {
        name: "drop_model",
        parameters: &["name", "version"],
        role: Role::Operator,
        columns: VERSION_COLUMNS,
        run: Run::Model(ModelWork::Drop),
    },
];

/// The folder of the data directory that relative paths of backups are in.
const BACKUPS: &str = "backup";

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

/// `CALL check()`: reads the manifest, the log and all parts against their checksums; a row for each of them, with what is
/// damaged.
fn check(db: &Db, _: &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>> {
    let report = db.check()?;
    let damages = |wanted: &dyn Fn(&Damage) -> bool| {
        let named = report.damages.iter().filter(|damage| wanted(damage)).map(ToString::to_string);
        let named: Vec<String> = named.collect();
        (!named.is_empty()).then(|| named.join("\n"))
    };
    let log = db.path().join("log");
    let in_log = |damage: &Damage| damage.table.is_none() && damage.file.starts_with(&log);
    let mut checked = vec![
        (
            "manifest".to_owned(),
            None,
            report.manifest_bytes,
            damages(&|damage| damage.table.is_none() && !in_log(damage)),
        ),
        ("log".to_owned(), None, report.log_bytes, damages(&in_log)),
    ];
    checked.extend(report.tables.iter().map(|table| {
        let damage = damages(&|damage| damage.table.as_ref() == Some(&table.name));
        (format!("table {}", table.name), Some((table.parts, table.rows)), table.bytes, damage)
    }));
    let integer = |count: u64| i64::try_from(count).ok();
    let objects: StringArray = checked.iter().map(|(object, ..)| Some(object.as_str())).collect();
    let parts: Int64Array = checked.iter().map(|(_, counts, ..)| integer(counts.as_ref()?.0)).collect();
    let rows: Int64Array = checked.iter().map(|(_, counts, ..)| integer(counts.as_ref()?.1)).collect();
    let bytes: Int64Array = checked.iter().map(|(_, _, bytes, _)| integer(*bytes)).collect();
    let damage: StringArray = checked.iter().map(|(.., damage)| damage.as_deref()).collect();
    Ok(vec![Arc::new(objects), Arc::new(parts), Arc::new(rows), Arc::new(bytes), Arc::new(damage)])
}

/// `CALL backup('/mnt/backup/monday')`: writes all that is committed to a new directory while reads and writes go on.
fn backup(db: &Db, arguments: &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>> {
    let path = text(arguments, 0, "path")?.ok_or_else(|| {
        Error::InvalidArgument(
            "backup needs a new directory on the server's machine: CALL backup('/mnt/monday')".into(),
        )
    })?;
    let place = place(db.path(), BACKUPS, &path)?;
    let report = db.backup(&place).map_err(|error| match Error::from(error) {
        // It is about the directory that the statement names.
        Error::Disk(text) => Error::File(text),
        other => other,
    })?;
    let shown: StringArray = [Some(place.display().to_string())].into_iter().collect();
    let count = |count: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![i64::try_from(count).ok()])) };
    Ok(vec![Arc::new(shown), count(report.tables), count(report.parts), count(report.bytes), count(report.sequence)])
}

pub(crate) fn text(arguments: &[Option<ScalarValue>], index: usize, name: &str) -> Result<Option<String>> {
    match arguments.get(index).and_then(Option::as_ref) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.try_as_str() {
            Some(text) => Ok(text.map(str::to_owned)),
            None => Err(Error::InvalidArgument(format!("argument \"{name}\" must be text, not {value}"))),
        },
    }
}

/// What a CALL can name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    Own(&'static Procedure),
    Operation(&'static Operation),
}

impl Named {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Named::Own(procedure) => procedure.name,
            Named::Operation(operation) => operation.name,
        }
    }

    /// The names of its parameters, in order.
    pub(crate) fn parameters(self) -> Vec<&'static str> {
        match self {
            Named::Own(procedure) => procedure.parameters.to_vec(),
            Named::Operation(operation) => operation.arguments(),
        }
    }

    fn role(self) -> Role {
        match self {
            Named::Own(procedure) => procedure.role,
            Named::Operation(operation) => operation.role,
        }
    }

    /// The columns of the result.
    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Named::Own(procedure) => procedure.schema(),
            Named::Operation(_) => Operation::schema(),
        }
    }
}

/// The procedure that a CALL names.
fn named(function: &Function) -> Result<Named> {
    let name = function.name.to_string().to_lowercase();
    let name = name.trim_start_matches("public.");
    let own = PROCEDURES.iter().find(|procedure| procedure.name == name).map(Named::Own);
    let operation = || OPERATIONS.iter().find(|operation| operation.name == name).copied().map(Named::Operation);
    own.or_else(operation).ok_or_else(|| {
        let operations = OPERATIONS.iter().map(|operation| operation.name);
        let known: Vec<&str> = PROCEDURES.iter().map(|procedure| procedure.name).chain(operations).collect();
        Error::UndefinedFunction(format!("procedure {name} does not exist; there is {}", known.join(", ")))
    })
}

/// The request that the arguments of a CALL are, in the order of the operation's arguments.
pub(crate) fn request(operation: &Operation, values: Vec<Option<ScalarValue>>) -> Result<Request> {
    let body = operation.body();
    let mut given = Vec::new();
    for (name, value) in operation.arguments().into_iter().zip(values) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            let nested = body.iter().any(|parameter| parameter.name == name && parameter.kind.is_nested());
            given.push((name, json(name, nested, &value)?));
        }
    }
    operation::request(operation, given)
}

/// An argument as JSON: texts that stand for objects and lists are read, times are written as RFC 3339.
fn json(name: &str, nested: bool, value: &ScalarValue) -> Result<Value> {
    if let Some(text) = value.try_as_str() {
        let text = text.unwrap_or_default();
        return match nested {
            false => Ok(text.into()),
            true => serde_json::from_str(text)
                .map_err(|error| Error::InvalidText(format!("argument \"{name}\" must be JSON: {error}"))),
        };
    }
    let array = value.to_array()?;
    let field = Arc::new(Field::new(name, array.data_type().clone(), true));
    let row = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array])?;
    let row = objects(&[row])?.pop();
    Ok(row.and_then(|mut row| row.remove(name)).unwrap_or_default())
}

/// Refuses a CALL that the user's role does not allow.
pub(crate) fn permit(user: &User, function: &Function) -> Result<()> {
    match named(function) {
        Ok(procedure) if procedure.role() == Role::Viewer => user.needs(Role::Viewer, procedure.name()),
        found => {
            // Who may call what changes something may be told that this does not exist.
            user.needs(Role::Operator, "procedures")?;
            let procedure = found?;
            user.needs(procedure.role(), &format!("procedure {}", procedure.name()))
        }
    }
}

/// A call with each argument's place found.
pub(crate) struct Call {
    pub(crate) procedure: Named,
    /// For each expression given, which parameter it is for.
    pub(crate) places: Vec<usize>,
    /// The expressions given.
    pub(crate) arguments: Vec<Expr>,
}

impl Call {
    /// The procedure that a CALL names, with its arguments matched.
    pub(crate) fn resolve(function: &Function) -> Result<Self> {
        let procedure = named(function)?;
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
        let parameters = self.procedure.parameters();
        let (place, value) = match argument {
            FunctionArg::Unnamed(value) => (self.arguments.len(), value),
            FunctionArg::Named { name, arg, .. } => (self.named(&name.value)?, arg),
            FunctionArg::ExprNamed { name, arg, .. } => (self.named(&name.to_string())?, arg),
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(Error::InvalidArgument(format!("\"{value}\" is no argument of {}", self.procedure.name())));
        };
        if place >= parameters.len() || self.places.contains(&place) {
            let text = match parameters.as_slice() {
                [] => format!("procedure {} takes no arguments", self.procedure.name()),
                _ => format!("procedure {} takes {} once each", self.procedure.name(), parameters.join(", ")),
            };
            return Err(Error::UndefinedFunction(text));
        }
        self.places.push(place);
        self.arguments.push(value.clone());
        Ok(())
    }

    fn named(&self, name: &str) -> Result<usize> {
        let parameters = self.procedure.parameters();
        parameters.iter().position(|parameter| parameter.eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::UndefinedFunction(format!(
                "procedure {} has no argument \"{name}\"; it has {}",
                self.procedure.name(),
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
}
