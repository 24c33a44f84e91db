//! CREATE DETECTOR and DROP DETECTOR, and what keeps detectors running.
//!
//! **Invariant:** a detector and its table are made and dropped in one commit.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::scalar::ScalarValue;
use juno_engine::{Column, TableChange, TableKind, TableSchema};

use super::{Session, Shared};
use crate::detector::status::{Running, VIEW};
use crate::detector::{Detector, DetectorStatement, RESULTS, TABLE, work};
use crate::procedure::text;
use crate::statement::Outcome;
use crate::{Error, Result, ops};

impl Session {
    pub(super) async fn detector_statement(&self, statement: &DetectorStatement) -> Result<Outcome> {
        self.check_writable(statement.tag())?;
        // Not the table: sessions of their own write that.
        let _held = self.lock(VIEW).await?;
        let mut notices = match statement {
            DetectorStatement::Create { detector, if_not_exists } => {
                self.create_detector(detector, *if_not_exists).await?
            }
            DetectorStatement::Drop { names, if_exists } => self.drop_detectors(names, *if_exists).await?,
        };
        self.warn_of_transaction(&mut notices, statement.tag());
        Ok(Outcome::Done { tag: statement.tag().into(), notices })
    }

    async fn create_detector(&self, detector: &Detector, if_not_exists: bool) -> Result<Vec<String>> {
        let name = &detector.name;
        if self.shared.detectors.get(name).is_some() {
            return match if_not_exists {
                true => Ok(vec![format!("detector \"{name}\" already exists, skipping")]),
                false => Err(Error::DuplicateObject(format!("detector \"{name}\" already exists"))),
            };
        }
        let table = self.results_table(detector)?;
        let quoted = |text: &str| text.replace('\'', "''");
        let row = format!(
            "INSERT INTO {TABLE} VALUES ('{}', '{}', '{}', {}, {}, now())",
            quoted(name),
            quoted(&detector.table),
            quoted(&detector.column),
            detector.warm_up,
            detector.false_alarms
        );
        let alone = self.connect();
        alone.query("BEGIN").await?;
        alone.change_tables(TableChange::Create(table))?;
        Box::pin(alone.step(&row)).await?;
        alone.query("COMMIT").await?;
        self.start_detector(detector.clone());
        Ok(Vec::new())
    }

    /// The table that a detector writes to: time and tags of the one that it watches, and its results.
    fn results_table(&self, detector: &Detector) -> Result<TableSchema> {
        let name = &detector.table;
        let catalog = self.shared.db.catalog();
        if self.shared.planner.public.has_view(name) {
            return Err(Error::WrongKind(format!("\"{name}\" is a view: a detector watches a table")));
        }
        let watched = catalog.table(name);
        let watched = watched.ok_or_else(|| Error::UndefinedTable(format!("relation \"{name}\" does not exist")))?;
        if ops::is_system_table(name) || watched.time().is_none() {
            let text = format!("\"{name}\" is no telemetry table: it has no time column that a detector could go by");
            return Err(Error::WrongKind(text));
        }
        let index = watched.column(&detector.column).ok_or_else(|| {
            Error::UndefinedColumn(format!("column \"{}\" of relation \"{name}\" does not exist", detector.column))
        })?;
        let column = &watched.columns[index];
        if watched.key.contains(&index) || !column.data_type.is_numeric() {
            return Err(Error::TypeMismatch(format!(
                "column \"{}\" of \"{name}\" is no column of numbers: a detector watches one",
                column.name
            )));
        }
        if catalog.table(&detector.name).is_some() || self.shared.planner.public.has_view(&detector.name) {
            return Err(Error::DuplicateTable(detector.name.clone()));
        }
        let mut columns: Vec<Column> = watched.key.iter().map(|&index| watched.columns[index].clone()).collect();
        if let Some(column) = columns.iter().find(|column| RESULTS.contains(&column.name.as_str())) {
            return Err(Error::InvalidDefinition(format!(
                "\"{name}\" has a tag or time \"{}\", which a detector's table has for its results: rename it first",
                column.name
            )));
        }
        let types = [DataType::Float64, DataType::Float64, DataType::Float64, DataType::Utf8, DataType::Boolean];
        let time = columns.len() - 1;
        columns.extend(RESULTS.into_iter().zip(types).map(|(name, data_type)| Column::new(name, data_type, true)));
        let (kind, retention) = (TableKind::Telemetry { time }, watched.retention);
        Ok(TableSchema { name: detector.name.clone(), columns, key: (0..=time).collect(), kind, retention })
    }

    async fn drop_detectors(&self, names: &[String], if_exists: bool) -> Result<Vec<String>> {
        let (mut notices, mut found) = (Vec::new(), Vec::new());
        // All are looked at before any is dropped.
        for name in names {
            match self.shared.detectors.get(name) {
                Some(_) => found.push(name),
                None if if_exists => notices.push(format!("detector \"{name}\" does not exist, skipping")),
                None => return Err(Error::UndefinedType(format!("detector \"{name}\" does not exist"))),
            }
        }
        for name in found {
            let alone = self.connect();
            alone.query("BEGIN").await?;
            Box::pin(alone.step(&format!("DELETE FROM {TABLE} WHERE name = '{}'", name.replace('\'', "''")))).await?;
            alone.change_tables(TableChange::Drop(name.clone()))?;
            alone.query("COMMIT").await?;
            self.shared.detectors.remove(name);
        }
        Ok(notices)
    }

    /// Starts the detectors that are stored, when the database is opened.
    pub(super) async fn start_detectors(&self) -> Result<()> {
        let query = format!("SELECT name, table_name, column_name, warm_up, false_alarms FROM {TABLE}");
        for batch in self.connect().collect(&query).await? {
            let text = |at: usize| batch.column(at).as_string::<i32>();
            for row in 0..batch.num_rows() {
                let warm_up = batch.column(3).as_primitive::<Int32Type>().value(row);
                self.start_detector(Detector {
                    name: text(0).value(row).to_owned(),
                    table: text(1).value(row).to_owned(),
                    column: text(2).value(row).to_owned(),
                    warm_up: usize::try_from(warm_up).unwrap_or_default(),
                    false_alarms: batch.column(4).as_primitive::<Float64Type>().value(row),
                });
            }
        }
        Ok(())
    }

    fn start_detector(&self, detector: Detector) {
        let running = Arc::new(Running::new(detector));
        let owner = Arc::downgrade(&self.shared);
        let task = tokio::spawn(work::work(owner, |shared: &Shared| &shared.db, Arc::clone(&running)));
        self.shared.detectors.add(running, task.abort_handle());
    }

    /// `CALL catch_up('odd')`: waits until a detector, or all, have judged what is committed.
    pub(super) async fn catch_up(&self, arguments: &[Option<ScalarValue>]) -> Result<Vec<ArrayRef>> {
        let detectors = &self.shared.detectors;
        let names = match text(arguments, 0, "detector")? {
            Some(name) => vec![name],
            None => detectors.names(),
        };
        let sequence = self.shared.db.snapshot().sequence();
        let (mut points, mut alarms) = (Vec::new(), Vec::new());
        for name in &names {
            let running = detectors.get(name);
            let running = running.ok_or_else(|| Error::UndefinedType(format!("detector \"{name}\" does not exist")))?;
            running.caught_up(sequence).await?;
            let counts = running.counts();
            points.push(i64::try_from(counts.0).ok());
            alarms.push(i64::try_from(counts.1).ok());
        }
        Ok(vec![
            Arc::new(StringArray::from_iter_values(&names)),
            Arc::new(Int64Array::from(points)),
            Arc::new(Int64Array::from(alarms)),
        ])
    }

    /// Refuses to take away or rename what a detector uses.
    pub(super) fn check_detectors(&self, what: &str, tables: &[String]) -> Result<()> {
        match self.shared.detectors.of_tables(tables).as_slice() {
            [] => Ok(()),
            detectors => Err(Error::Unsupported(format!(
                "{what} is used by detector {}: DROP DETECTOR first",
                detectors.join(", ")
            ))),
        }
    }
}
