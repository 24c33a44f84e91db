//! The detectors that run, how far each is, and the view `detectors` of them.
//!
//! **Invariant:** what the view shows is kept in memory and read at once; nothing here judges.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::Detector;
use super::judge::Judge;
use crate::types::timestamptz;
use crate::{Error, Result, computed};

/// The view of detectors.
pub(crate) const VIEW: &str = "detectors";

/// How far a detector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It reads what was committed before it began.
    CatchingUp,
    /// It judges what is committed.
    Live,
    /// It could not go on, and will try again.
    Failed(String),
}

#[derive(Debug, Clone)]
struct Figures {
    stage: Stage,
    series: usize,
    points: u64,
    alarms: u64,
    refused: u64,
    newest_us: Option<i64>,
}

/// A detector that runs.
pub(crate) struct Running {
    pub(crate) detector: Detector,
    figures: Mutex<Figures>,
    woken: Notify,
    /// All commits up to this one were judged.
    done: watch::Sender<u64>,
}

impl Running {
    pub(crate) fn new(detector: Detector) -> Self {
        let figures =
            Figures { stage: Stage::CatchingUp, series: 0, points: 0, alarms: 0, refused: 0, newest_us: None };
        Self { detector, figures: Mutex::new(figures), woken: Notify::new(), done: watch::Sender::new(0) }
    }

    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) async fn wait(&self) {
        self.woken.notified().await;
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.figures.lock().stage = stage;
    }

    /// Takes down a failure; whether it is another than before.
    pub(super) fn fail(&self, error: &Error) -> bool {
        let stage = Stage::Failed(error.to_string());
        let mut figures = self.figures.lock();
        let is_new = figures.stage != stage;
        figures.stage = stage;
        is_new
    }

    pub(super) fn judged(&self, judge: &Judge) {
        let mut figures = self.figures.lock();
        figures.series = judge.series();
        (figures.points, figures.alarms, figures.refused) = (judge.points, judge.alarms, judge.refused);
        figures.newest_us = judge.newest_us;
    }

    pub(super) fn done(&self, sequence: u64) {
        self.stage(Stage::Live);
        self.done.send_replace(sequence);
    }

    /// Waits until all commits up to this one were judged.
    ///
    /// # Errors
    /// What the detector cannot go on for.
    pub(crate) async fn caught_up(&self, sequence: u64) -> Result<()> {
        let mut done = self.done.subscribe();
        self.wake();
        loop {
            if *done.borrow_and_update() >= sequence {
                return Ok(());
            }
            if let Stage::Failed(reason) = &self.figures.lock().stage {
                let text = format!("detector \"{}\" stands still: {reason}", self.detector.name);
                return Err(Error::InvalidDefinition(text));
            }
            // A failure does not end the wait by itself.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), done.changed()).await;
        }
    }

    /// The points that were judged since it began, and the alarms among them.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let figures = self.figures.lock();
        (figures.points, figures.alarms)
    }
}

/// All detectors that run, by name.
#[derive(Default)]
pub(crate) struct Detectors {
    running: RwLock<BTreeMap<String, (Arc<Running>, AbortHandle)>>,
}

impl Detectors {
    pub(crate) fn add(&self, running: Arc<Running>, task: AbortHandle) {
        self.running.write().insert(running.detector.name.clone(), (running, task));
    }

    pub(crate) fn remove(&self, name: &str) {
        if let Some((_, task)) = self.running.write().remove(name) {
            task.abort();
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Running>> {
        self.running.read().get(name).map(|(running, _)| Arc::clone(running))
    }

    /// The detectors that watch one of these tables or write to it.
    pub(crate) fn of_tables(&self, tables: &[String]) -> Vec<String> {
        let uses = |detector: &Detector| tables.contains(&detector.table) || tables.contains(&detector.name);
        let running = self.running.read();
        running.values().filter(|(running, _)| uses(&running.detector)).map(|(r, _)| r.detector.name.clone()).collect()
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.read().keys().cloned().collect()
    }
}

impl Drop for Detectors {
    fn drop(&mut self) {
        self.running.get_mut().values().for_each(|(_, task)| task.abort());
    }
}

/// The view.
pub(crate) fn view(detectors: &Arc<Detectors>) -> Result<Arc<dyn TableProvider>> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let count = |name| Field::new(name, DataType::Int64, true);
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        text("name"),
        text("table_name"),
        text("column_name"),
        count("warm_up"),
        Field::new("false_alarms", DataType::Float64, true),
        text("stage"),
        text("error"),
        count("series"),
        count("points"),
        count("alarms"),
        count("points_refused"),
        Field::new("newest_time", timestamptz(), true),
    ]));
    let detectors = Arc::clone(detectors);
    computed::view(schema, move |schema| rows(&detectors, schema))
}

/// The rows of the view.
fn rows(detectors: &Detectors, schema: &SchemaRef) -> Result<RecordBatch> {
    let running = detectors.running.read();
    let all: Vec<(&Detector, Figures)> =
        running.values().map(|(running, _)| (&running.detector, running.figures.lock().clone())).collect();
    let texts = |of: &dyn Fn(&(&Detector, Figures)) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<StringArray>())
    };
    let counts = |of: &dyn Fn(&(&Detector, Figures)) -> u64| -> ArrayRef {
        Arc::new(all.iter().map(|row| i64::try_from(of(row)).ok()).collect::<Int64Array>())
    };
    let newest: TimestampMicrosecondArray = all.iter().map(|(_, figures)| figures.newest_us).collect();
    let columns = vec![
        texts(&|(detector, _)| Some(detector.name.clone())),
        texts(&|(detector, _)| Some(detector.table.clone())),
        texts(&|(detector, _)| Some(detector.column.clone())),
        counts(&|(detector, _)| detector.warm_up as u64),
        Arc::new(all.iter().map(|(detector, _)| Some(detector.false_alarms)).collect::<Float64Array>()),
        texts(&|(_, figures)| {
            Some(match figures.stage {
                Stage::CatchingUp => "catching_up".into(),
                Stage::Live => "live".into(),
                Stage::Failed(_) => "failed".into(),
            })
        }),
        texts(&|(_, figures)| match &figures.stage {
            Stage::Failed(reason) => Some(reason.clone()),
            _ => None,
        }),
        counts(&|(_, figures)| figures.series as u64),
        counts(&|(_, figures)| figures.points),
        counts(&|(_, figures)| figures.alarms),
        counts(&|(_, figures)| figures.refused),
        Arc::new(newest.with_data_type(timestamptz())),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
