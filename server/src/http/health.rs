//! Probes and metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! **Invariant:** answers from memory; never waits for a query or the query runtime, and for a disk only as [`room`] does.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::accept::{Format, negotiate};
use super::problem::Problem;
use super::{Gate, count_open, figures, room};

/// The process is alive and its I/O runtime answers.
pub(super) async fn healthz() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// 200 when statements and writes are taken and the disk has room, else 503 with the reason. That flushes fail is a warning: they
/// are tried again, and one who waits for the probe before writing would wait for ever.
pub(super) async fn readyz(State(gate): State<Arc<Gate>>) -> Response {
    let (reason, warning) = match gate.doors() {
        Err(problem) => (Some(problem.detail.clone()), None),
        Ok(doors) => {
            let status = doors.session.db().status();
            let read_only = |reason| format!("the database is read-only since a write failed: {reason}");
            let failing = |reason| format!("rows stay in memory and in the log, since flushes fail: {reason}");
            let reason = match status.read_only {
                Some(reason) => Some(read_only(reason)),
                None => room::lack(doors.session.db().path().to_owned()).await,
            };
            (reason, status.flush_failing.map(failing))
        }
    };
    match reason {
        None if warning.is_some() => Json(json!({"status": "ready", "warning": warning})).into_response(),
        None => Json(json!({"status": "ready"})).into_response(),
        Some(reason) => {
            let mut body = json!({"status": "not ready", "reason": reason});
            if let Some(warning) = warning {
                body["warning"] = warning.into();
            }
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(body)).into_response()
        }
    }
}

/// 200 from the moment on when the database is open, whatever became of it since.
pub(super) async fn startupz(State(gate): State<Arc<Gate>>) -> Result<Response, Problem> {
    gate.doors()?;
    Ok(Json(json!({"status": "started"})).into_response())
}

/// Everything countable, as OpenMetrics text.
pub(super) async fn metrics(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Response {
    let format = negotiate(&headers, &[Format::OpenMetrics, Format::Prometheus]).unwrap_or(Format::OpenMetrics);
    exposition(&gate, format)
}

/// The document of all metrics, as OpenMetrics or as Prometheus's older text.
pub(crate) fn exposition(gate: &Gate, format: Format) -> Response {
    let text = open_metrics(gate);
    let text = if format == Format::Prometheus { older(&text) } else { text };
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

/// An OpenMetrics document in version 0.0.4 of the text format, whose counters are named as their samples are.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")).peekable();
    while let Some(line) = lines.next() {
        let family = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let counter = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"));
        match (family, counter) {
            (Some((name, help)), _) if lines.peek() == Some(&format!("# TYPE {name} counter").as_str()) => {
                out.push_str(&format!("# HELP {name}_total {help}"));
            }
            (_, Some(name)) => out.push_str(&format!("# TYPE {name}_total counter")),
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn open_metrics(gate: &Gate) -> String {
    let mut out = String::new();
    gate.counters.encode(&mut out);
    let mut registry = Registry::with_prefix("juno");
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let counter = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    gauge(&mut registry, "uptime_seconds", "Time since the process started", gate.uptime_s());
    if let Ok(doors) = gate.doors() {
        let status = doors.session.db().status();
        let device = Family::<Vec<(String, String)>, Gauge>::default();
        let found = doors.session.device();
        device.get_or_create(&vec![("kind".into(), found.kind().into()), ("name".into(), found.name())]).set(1);
        registry.register("device", "The device that ML functions run on", device);
        let fallbacks = "Kernel calls that the CPU did because the device failed";
        counter(&mut registry, "device_fallbacks", fallbacks, found.fallbacks());
        gauge(&mut registry, "log_bytes", "Bytes in the log", status.log_bytes);
        gauge(&mut registry, "memtable_bytes", "Bytes of rows not yet in a part", status.memtable_bytes);
        gauge(&mut registry, "memtable_rows", "Rows not yet in a part", status.memtable_rows);
        gauge(&mut registry, "tables", "Tables", status.tables as u64);
        gauge(&mut registry, "parts", "Parquet parts", status.parts as u64);
        gauge(&mut registry, "part_bytes", "Bytes in Parquet parts", status.part_bytes);
        counter(&mut registry, "flushed_bytes", "Bytes of parts that flushes wrote", status.flushed_bytes);
        counter(&mut registry, "compacted_bytes", "Bytes of parts that compactions wrote", status.compacted_bytes);
        let failing = u64::from(status.flush_failing.is_some());
        gauge(&mut registry, "flush_failing", "1 while flushes fail and are tried again", failing);
        gauge(
            &mut registry,
            "read_only",
            "1 after a failed write to disk that cannot be undone",
            u64::from(status.read_only.is_some()),
        );
        let known = doors.session.operation_figures();
        if known.is_stale {
            count_open(&doors);
        }
        figures::register(known, &mut registry);
    }
    text::encode(&mut out, &registry).expect("a String takes every write");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_text_names_counters_as_their_samples_and_has_no_end_mark() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total 1\n# HELP s_seconds Time.\n# TYPE s_seconds gauge\n\
                    # UNIT s_seconds seconds\ns_seconds 2\n# EOF\n";
        let wanted = "# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n# HELP s_seconds Time.\n\
                      # TYPE s_seconds gauge\ns_seconds 2\n";
        assert_eq!(older(text), wanted);
    }
}
