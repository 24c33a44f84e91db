//! The telemetry that a diagnosis looks at: columns of numbers whose table has a tag `service`.
//!
//! Where there are more than [`METRICS_MAX`], first come those that symptoms name, or whose table may have what symptoms name, then
//! those of tables that have rows of the services asked about, of what these call, directly or not, and of who calls them.
//!
//! **Invariant:** what is left out is told.

use std::collections::BTreeSet;

use juno_engine::Catalog;

use super::asked::Asked;
use crate::Result;
use crate::ops::healing::policy::graph::Graph;
use crate::ops::operations::predict::quoted;
use crate::session::{Invocation, Session, rfc3339};

/// Metrics that are looked at.
pub(super) const METRICS_MAX: usize = 256;

/// A column of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) table: String,
    pub(super) name: String,
    time: String,
    /// Whether the tag `metric` of its table names what is measured.
    names_metrics: bool,
}

impl Column {
    fn metric(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// Its name as a metric, where no tag names what is measured.
    fn own_name(&self) -> Option<String> {
        (!self.names_metrics).then(|| self.metric())
    }

    /// The query of its times, services, names and values.
    fn rows(&self, (since_us, until_us): (i64, i64)) -> String {
        let metric = self.own_name().map_or_else(|| "CAST(metric AS TEXT)".to_owned(), |name| literal(&name));
        format!(
            "SELECT {} AS time, CAST(service AS TEXT) AS service, {metric} AS metric, CAST({} AS DOUBLE PRECISION) AS value \
             FROM {} WHERE {}",
            self.time,
            quoted(&self.name),
            quoted(&self.table),
            within(&self.time, since_us, until_us)
        )
    }
}

/// The query of all rows; None where no table has a tag `service`.
pub(super) async fn rows(
    invocation: &Invocation,
    asked: &Asked,
    graph: &Graph,
    warnings: &mut Vec<String>,
) -> Result<Option<String>> {
    let mut columns = columns(&invocation.session.db().catalog());
    let times = (asked.since_us, asked.to_us);
    if columns.len() > METRICS_MAX {
        let symptoms: BTreeSet<&str> = asked.symptoms.iter().map(|(_, metric)| metric.as_str()).collect();
        let near = tables_near(&invocation.session, &near(asked, graph), &columns, times).await?;
        warnings.push(left_out(columns.len()));
        columns = chosen(columns, &symptoms, &near);
    }
    let parts: Vec<String> = columns.iter().map(|column| column.rows(times)).collect();
    Ok((!parts.is_empty()).then(|| parts.join(" UNION ALL ")))
}

/// All columns of numbers.
pub(super) fn columns(catalog: &Catalog) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, table) in &catalog.tables {
        let tag = |wanted: &str| table.tags().iter().any(|tag| table.columns[*tag].name == wanted);
        let (Some(time), true) = (table.time(), tag("service")) else { continue };
        let names_metrics = tag("metric") && table.column("value").is_some();
        let numeric = table.columns.iter().filter(|column| column.data_type.is_numeric());
        for column in numeric.filter(|column| !names_metrics || column.name == "value") {
            let time = quoted(&table.columns[time].name);
            columns.push(Column { table: name.clone(), name: column.name.clone(), time, names_metrics });
        }
    }
    columns
}

fn left_out(count: usize) -> String {
    format!(
        "{} of {count} metrics were left out: those of the services asked about and of their neighbours come first",
        count - METRICS_MAX
    )
}

/// Those to look at.
fn chosen(mut columns: Vec<Column>, symptoms: &BTreeSet<&str>, near: &BTreeSet<String>) -> Vec<Column> {
    let names: BTreeSet<String> = columns.iter().filter_map(Column::own_name).collect();
    // What is named by no column can be what a tag names.
    let is_elsewhere = symptoms.iter().any(|symptom| !names.contains(*symptom));
    columns.sort_by_cached_key(|column| match () {
        () if column.own_name().map_or(is_elsewhere, |name| symptoms.contains(name.as_str())) => 0,
        () if near.contains(&column.table) => 1,
        () => 2,
    });
    columns.truncate(METRICS_MAX);
    columns
}

/// The services asked about, what they call, directly or not, and who calls them.
fn near<'a>(asked: &'a Asked, graph: &'a Graph) -> BTreeSet<&'a str> {
    let own = asked.services();
    let mut near = own.clone();
    for service in own {
        near.extend(graph.reached(service));
        near.extend(graph.callers(service));
    }
    near
}

/// The tables that have rows of these services.
pub(super) async fn tables_near(
    session: &Session,
    services: &BTreeSet<&str>,
    columns: &[Column],
    (since_us, until_us): (i64, i64),
) -> Result<BTreeSet<String>> {
    let mut near = BTreeSet::new();
    if services.is_empty() {
        return Ok(near);
    }
    let names: Vec<String> = services.iter().map(|service| literal(service)).collect();
    let mut tables: Vec<(&str, &str)> =
        columns.iter().map(|column| (column.table.as_str(), column.time.as_str())).collect();
    tables.dedup();
    for (table, time) in tables {
        let some = format!(
            "SELECT 1 AS found FROM {} WHERE CAST(service AS TEXT) IN ({}) AND {} LIMIT 1",
            quoted(table),
            names.join(", "),
            within(time, since_us, until_us)
        );
        if !session.objects(&some, &[]).await?.is_empty() {
            near.insert(table.to_owned());
        }
    }
    Ok(near)
}

fn within(time: &str, since_us: i64, until_us: i64) -> String {
    let (since, until) = (rfc3339(since_us), rfc3339(until_us));
    format!("{time} >= TIMESTAMPTZ '{since}' AND {time} < TIMESTAMPTZ '{until}'")
}

/// A text in SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(table: &str, number: usize) -> Column {
        Column { table: table.into(), name: format!("c{number}"), time: "\"time\"".into(), names_metrics: false }
    }

    #[test]
    fn what_symptoms_name_and_what_is_near_stays_where_not_all_can() {
        let far = (0..300).map(|number| column("far", number));
        let columns: Vec<Column> = far.chain((0..3).map(|number| column("near", number))).collect();
        let kept = chosen(columns, &["far.c299"].into(), &["near".to_owned()].into());
        assert_eq!(kept.len(), METRICS_MAX);
        let first: Vec<String> = kept[..5].iter().map(Column::metric).collect();
        assert_eq!(first, ["far.c299", "near.c0", "near.c1", "near.c2", "far.c0"]);
        assert!(left_out(303).starts_with("47 of 303 metrics"), "{}", left_out(303));
    }

    #[test]
    fn a_symptom_that_is_no_column_may_be_one_that_a_tag_names() {
        let columns = || {
            let far = (0..300).map(|number| column("far", number));
            let named = Column { name: "value".into(), names_metrics: true, ..column("points", 0) };
            far.chain([named]).collect::<Vec<Column>>()
        };
        let first = |symptoms: &[&str]| {
            let kept = chosen(columns(), &symptoms.iter().copied().collect(), &BTreeSet::new());
            assert_eq!(kept.len(), METRICS_MAX);
            kept[..2].iter().map(Column::metric).collect::<Vec<String>>()
        };
        assert_eq!(first(&["latency", "far.c7"]), ["far.c7", "points.value"]);
        assert_eq!(first(&["far.c7"]), ["far.c7", "far.c0"]);
        assert_eq!(first(&[]), ["far.c0", "far.c1"]);
    }

    #[test]
    fn near_is_what_is_called_and_who_calls() {
        let graph = Graph::new([("site", "shop"), ("shop", "cart"), ("cart", "store"), ("mail", "store")]);
        let asked = Asked {
            incident: None,
            service: Some("shop".into()),
            symptoms: vec![("bank".into(), "latency".into())],
            since_us: 0,
            from_us: 1,
            to_us: 2,
        };
        assert_eq!(near(&asked, &graph).into_iter().collect::<Vec<_>>(), ["bank", "cart", "shop", "site", "store"]);
    }
}
