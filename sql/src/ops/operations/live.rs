//! The views `operations_config`, `operations_live` and `runbooks_built_in`: settings, components, the backend and the runbooks that
//! juno has, as they are in memory.
//!
//! **Invariant:** worked out when it is read; nothing here reads a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use juno_engine::Db;
use juno_kernels::Device;
use serde_json::{Map, Value, json};

use crate::operation::Component;
use crate::ops::healing::policy::runbook::built_in;
use crate::role::CONFIG;
use crate::session::{LastRun, Operations, rfc3339};
use crate::types::{TYPE_KEY, timestamptz};
use crate::{Result, computed};

/// What the views are made of.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) db: Db,
    pub(crate) device: Device,
    pub(crate) operations: Arc<Operations>,
}

/// What one of the views computes.
type Compute = fn(&Live) -> Vec<ArrayRef>;

/// The views by name.
pub(crate) fn views(live: &Live) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let json = |name| text(name).with_metadata([(TYPE_KEY.to_owned(), "jsonb".to_owned())].into());
    let config = vec![text("id"), text("value"), text("source")];
    let now = vec![
        Field::new("phase", DataType::Int64, true),
        text("version"),
        Field::new("uptime_s", DataType::Int64, true),
        Field::new("started_at", timestamptz(), true),
        Field::new("ai_native_operations", DataType::Boolean, true),
        text("autonomy_level"),
        text("sensitivity"),
        json("components"),
        json("backend"),
    ];
    let table = |fields: Vec<Field>, compute: Compute| {
        let live = live.clone();
        let rows = move |schema: &SchemaRef| Ok(RecordBatch::try_new(Arc::clone(schema), compute(&live))?);
        computed::view(Arc::new(Schema::new(fields)), rows)
    };
    let books = vec![text("id"), Field::new("version", DataType::Int64, true), text("risk"), text("does")];
    Ok(vec![
        (CONFIG, table(config, settings)?),
        ("operations_live", table(now, state)?),
        ("runbooks_built_in", table(books, runbooks)?),
    ])
}

fn runbooks(_: &Live) -> Vec<ArrayRef> {
    let all = built_in();
    vec![
        texts(all.iter().map(|book| book.name.as_str())),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|book| i64::from(book.version)))),
        texts(all.iter().map(|book| book.risk.name())),
        texts(all.iter().map(|book| book.does.as_str())),
    ]
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn settings(live: &Live) -> Vec<ArrayRef> {
    let shown = &live.operations.settings().shown;
    vec![
        texts(shown.iter().map(|setting| setting.name.as_str())),
        texts(shown.iter().map(|setting| setting.value.as_str())),
        texts(shown.iter().map(|setting| setting.source.as_str())),
    ]
}

fn state(live: &Live) -> Vec<ArrayRef> {
    let settings = live.operations.settings();
    let now_us = live.db.system().clock().now_us();
    let started_us = live.operations.started_us;
    let backend = json!({ "kind": live.device.kind(), "device": live.device.name() });
    vec![
        Arc::new(Int64Array::from(vec![i64::from(settings.phase)])),
        texts([env!("CARGO_PKG_VERSION")].into_iter()),
        Arc::new(Int64Array::from(vec![(now_us - started_us) / 1_000_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![started_us]).with_timezone("+00:00")),
        Arc::new(BooleanArray::from(vec![settings.ai_native])),
        texts([settings.healing.to_string().as_str()].into_iter()),
        texts([settings.anomaly_sensitivity.to_string().as_str()].into_iter()),
        texts([components(live, now_us).to_string().as_str()].into_iter()),
        texts([backend.to_string().as_str()].into_iter()),
    ]
}

/// Each component with whether it is switched on, and how its last run went.
fn components(live: &Live, now_us: i64) -> Value {
    let settings = live.operations.settings();
    let mut all = Map::new();
    for component in Component::ALL {
        let run = live.operations.last_run(component);
        all.insert(component.name().into(), told(settings.enabled(component), &run, now_us));
    }
    let status = live.db.status();
    let storage = match &status.read_only {
        Some(reason) => json!({ "enabled": true, "state": "read_only", "last_error": reason }),
        None => json!({ "enabled": true, "state": "running", "last_error": status.flush_failing }),
    };
    all.insert("storage".into(), storage);
    all.insert("governance".into(), told(true, &live.operations.last_run(Component::Governance), now_us));
    // Without a server there is no door, and nobody tells of it.
    let door = live.operations.last_run(Component::Pgwire);
    all.insert("pgwire".into(), told(door.at_us.is_some(), &door, now_us));
    all.insert("accelerator".into(), json!({ "enabled": live.device.kind() != "cpu", "state": live.device.kind() }));
    Value::Object(all)
}

/// A component with how its last run went.
fn told(enabled: bool, run: &LastRun, now_us: i64) -> Value {
    let state = match (enabled, &run.error, run.at_us) {
        (false, ..) => "disabled",
        (true, Some(_), _) => "failing",
        (true, None, None) => "idle",
        (true, None, Some(_)) => "running",
    };
    let lag_s = run.at_us.map(|at| (now_us - at) as f64 / 1e6);
    json!({
        "enabled": enabled, "state": state, "last_run_at": run.at_us.map(rfc3339), "last_error": run.error, "lag_s": lag_s,
    })
}
