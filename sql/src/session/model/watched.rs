//! What is watched of a model once it is in use: the rows that its source has since then.
//!
//! **Invariant:** the source is read as an operator reads it, whoever trained the model; rows that their label calls attacks, and
//! those from the addresses of attackers, do not count.

use std::collections::HashSet;

use arrow::array::AsArray;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::request::Labels;
use super::{model_columns, window};
use crate::Result;
use crate::model::Stored;
use crate::model::rows::{refused, with_values};
use crate::ops::operations::predict::quoted;
use crate::role::{Role, User};
use crate::session::{Session, blocking, rfc3339};

/// Rows of one look: the newest.
const ROWS_MAX: usize = 2_000;
/// The column of addresses.
const ADDRESS: &str = "src_ip";

/// Where a model's rows come from, as its metrics keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// A table or a query.
    source: String,
    /// Its column of times.
    time: String,
    label: Option<String>,
    /// The label of ordinary rows, where it is none of the usual ones.
    ordinary: Option<String>,
    /// Whether it has a column of addresses.
    has_address: bool,
}

/// New rows of a source.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The p-values of the ordinary ones, oldest first.
    pub(crate) p_values: Vec<f64>,
    /// The time of the newest row.
    pub(crate) until_us: Option<i64>,
}

impl Watched {
    /// Of the rows that a model was trained on; none where they have no time.
    pub(super) fn of(source: &str, rows: &RecordBatch, label: Option<&Labels>) -> Option<Watched> {
        let schema = rows.schema();
        let time = schema.fields().iter().find(|field| matches!(field.data_type(), DataType::Timestamp(..)))?;
        Some(Watched {
            source: source.trim().trim_end_matches(';').to_owned(),
            time: time.name().clone(),
            label: label.map(|label| label.column.clone()),
            ordinary: label.and_then(|label| label.ordinary.clone()),
            has_address: schema.column_with_name(ADDRESS).is_some(),
        })
    }

    /// The query of the newest rows between two times with these columns, newest first.
    fn query(&self, features: &[&str], (after_us, until_us): (i64, i64)) -> String {
        let mut columns = features.to_vec();
        let others = [Some(self.time.as_str()), self.label.as_deref(), self.has_address.then_some(ADDRESS)];
        for column in others.into_iter().flatten() {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let columns = columns.into_iter().map(quoted).collect::<Vec<_>>().join(", ");
        let is_query = self.source.contains(char::is_whitespace);
        // A query may end in a comment.
        let source = if is_query { format!("({}\n) AS source", self.source) } else { self.source.clone() };
        let (time, after, until) = (quoted(&self.time), rfc3339(after_us), rfc3339(until_us));
        format!(
            "SELECT {columns} FROM {source} WHERE {time} > TIMESTAMPTZ '{after}' AND {time} <= TIMESTAMPTZ '{until}' \
             ORDER BY {time} DESC LIMIT {ROWS_MAX}"
        )
    }

    /// Whether each row is an ordinary one, as far as anybody knows.
    fn ordinary(&self, rows: &RecordBatch, attackers: &HashSet<String>) -> Result<Vec<bool>> {
        let mut ordinary = vec![true; rows.num_rows()];
        if let Some(column) = &self.label {
            let labels = Labels { column: column.clone(), ordinary: self.ordinary.clone() };
            ordinary.iter_mut().zip(labels.attacks(rows)?).for_each(|(ordinary, attack)| *ordinary &= !attack);
        }
        if let Some(addresses) = rows.column_by_name(ADDRESS).filter(|_| self.has_address) {
            let texts = cast(addresses, &DataType::Utf8)?;
            let is_known = |address: Option<&str>| address.is_some_and(|address| attackers.contains(address));
            let texts = texts.as_string::<i32>().iter();
            ordinary.iter_mut().zip(texts).for_each(|(ordinary, address)| *ordinary &= !is_known(address));
        }
        Ok(ordinary)
    }
}

impl Session {
    /// The p-values by a model of the rows that its source has between two times, of at most the newest [`ROWS_MAX`].
    pub(crate) async fn recent_p_values(
        &self,
        stored: &Stored,
        watched: &Watched,
        between_us: (i64, i64),
        attackers: &HashSet<String>,
    ) -> Result<Recent> {
        let model = stored.model()?;
        let query = {
            let names: Vec<&str> = model.features().map(|(name, _)| name).collect();
            watched.query(&names, between_us)
        };
        let reader = self.connect_as(User { name: "juno".into(), role: Some(Role::Operator) });
        let batches = reader.collect(&query).await?;
        let Some(first) = batches.first() else { return Ok(Recent::default()) };
        let rows = concat_batches(&first.schema(), &batches)?;
        if rows.num_rows() == 0 {
            return Ok(Recent::default());
        }
        let columns = model_columns(&model, stored, &rows)?;
        let ordinary = watched.ordinary(&rows, attackers)?;
        let until_us = window(&rows)?.map(|(_, last)| last);
        let device = self.device().clone();
        let scored = blocking(move || {
            let scored = with_values(&columns, |values| model.score(&device, values));
            scored.map_err(|error| refused(&error))
        });
        let scored = scored.await?;
        let kept = scored.p_values.iter().zip(ordinary).rev().filter(|(_, ordinary)| *ordinary);
        Ok(Recent { p_values: kept.map(|(p_value, _)| *p_value).collect(), until_us })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn rows() -> RecordBatch {
        let texts = |texts: [Option<&str>; 4]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
        RecordBatch::try_from_iter([
            ("src_ip", texts([Some("192.0.2.1"), Some("192.0.2.2"), None, Some("192.0.2.1")])),
            ("label", texts([Some("normal"), Some("sqli"), None, Some("dos")])),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3, 4])) as ArrayRef),
        ])
        .expect("rows")
    }

    #[test]
    fn a_source_is_read_by_its_own_time_with_each_column_once() {
        let label = Labels { column: "label".into(), ordinary: None };
        let watched = Watched::of(" requests; ", &rows(), Some(&label)).expect("it has times");
        let query = watched.query(&["src_ip", "bytes"], (0, 1_000_000));
        let expected = "SELECT \"src_ip\", \"bytes\", \"at\", \"label\" FROM requests \
                        WHERE \"at\" > TIMESTAMPTZ '1970-01-01T00:00:00.000000Z' \
                        AND \"at\" <= TIMESTAMPTZ '1970-01-01T00:00:01.000000Z' ORDER BY \"at\" DESC LIMIT 2000";
        assert_eq!(query, expected);
        let watched = Watched::of("SELECT * FROM requests", &rows(), None).expect("it has times");
        assert!(watched.query(&["bytes"], (0, 1)).contains(" FROM (SELECT * FROM requests\n) AS source WHERE"));
        let kept: Watched = serde_json::from_str(&serde_json::to_string(&watched).expect("JSON")).expect("the same");
        assert_eq!(kept, watched);
        assert_eq!(Watched::of("requests", &rows().project(&[0, 1]).expect("two columns"), None), None);
    }

    #[test]
    fn labelled_attacks_and_known_attackers_do_not_count() {
        let label = Labels { column: "label".into(), ordinary: None };
        let of = |label: Option<&Labels>, attackers: &[&str]| {
            let watched = Watched::of("requests", &rows(), label).expect("it has times");
            let attackers: HashSet<String> = attackers.iter().map(|address| (*address).to_owned()).collect();
            watched.ordinary(&rows(), &attackers).expect("a judgement")
        };
        assert_eq!(of(None, &[]), [true; 4]);
        assert_eq!(of(Some(&label), &[]), [true, false, true, false], "a row without a label is an ordinary one");
        assert_eq!(of(Some(&label), &["192.0.2.1"]), [false, false, true, false]);
    }
}
