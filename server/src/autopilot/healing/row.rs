//! Rows: what is seen of a fleet as telemetry, and the incident that an earlier process left open.
//!
//! **Invariant:** what is not known is NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use juno_sql::healing::evidence::Evidence;
use juno_sql::healing::status::Status;
use juno_sql::{AUTOPILOT, HEALTH, IncidentChange, Incoming, Session};

use super::evidence::health;
use super::scrape::{Look, SERIES};
use super::{Incident, Result, stored};

/// One row of each service.
pub(super) fn health_rows<'a>(
    at_us: i64,
    services: impl Iterator<Item = (&'a str, &'a Look, Evidence)>,
) -> Result<Incoming> {
    let all: Vec<_> = services.collect();
    let names: DictionaryArray<Int32Type> = all.iter().map(|(service, ..)| *service).collect();
    let times = TimestampMicrosecondArray::from_value(at_us, all.len()).with_timezone("+00:00");
    let mut columns: Vec<(&str, ArrayRef)> = vec![("time", Arc::new(times)), ("service", Arc::new(names))];
    for (series, name) in SERIES.into_iter().enumerate() {
        let values = all.iter().map(|(_, look, _)| Some(look.values[series]).filter(|value| value.is_finite()));
        columns.push((name, Arc::new(values.collect::<Float64Array>())));
    }
    let judged: Vec<_> = all.iter().map(|(_, look, evidence)| health(evidence, look)).collect();
    for number in 0..judged.first().map_or(0, |one| one.len()) {
        let values = judged.iter().map(|one| one[number].1.filter(|value| value.is_finite()));
        columns.push((judged[0][number].0, Arc::new(values.collect::<Float64Array>())));
    }
    let rows = RecordBatch::try_from_iter(columns)?;
    Ok(Incoming { table: HEALTH.into(), rows, time: "time".into(), tags: vec!["service".into()] })
}

/// The incident of a source that is not over.
pub(super) async fn left_open(session: &Session, source: &str) -> Result<Option<Incident>> {
    let found = "SELECT id, detected_at, severity FROM healing_incidents_list WHERE resolved_at IS NULL \
                 AND symptoms ->> 'reported_by' = $1 AND symptoms ->> 'source' = $2 AND status IN ('open', 'diagnosing', 'remediating', 'verifying') \
                 ORDER BY detected_at DESC LIMIT 1";
    let Some(row) = session.objects(found, &[AUTOPILOT.into(), source.into()]).await?.pop() else { return Ok(None) };
    let (id, severity, opened_us) = stored(&row)?;
    let change = IncidentChange { status: Some(Status::Diagnosing), ..IncidentChange::default() };
    session.change_incident(&id, change).await?;
    Ok(Some(Incident::new(id, opened_us, severity)))
}
