//! Series as rows: `t`, `metric`, a column for each tag that they are grouped by, `value`.
//!
//! **Invariant:** the same columns whatever rows there are; a tag that has the name of another column is `label_…`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use juno_sql::Result;

use super::Series;

/// The zone of times.
const UTC: &str = "+00:00";

/// The columns of series that are grouped by these tags.
pub(super) fn schema(group_by: &[String]) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
    let mut fields = vec![Field::new("t", time, false), Field::new("metric", DataType::Utf8, false)];
    for tag in group_by {
        let mut name = tag.clone();
        while name == "value" || fields.iter().any(|field| *field.name() == name) {
            name.insert_str(0, "label_");
        }
        fields.push(Field::new(name, DataType::Utf8, true));
    }
    fields.push(Field::new("value", DataType::Float64, true));
    Arc::new(Schema::new(fields))
}

/// The rows of the series of one metric, one series after the other.
pub(super) fn rows(schema: &SchemaRef, metric: &str, all: &[Series]) -> Result<RecordBatch> {
    let points = || all.iter().flat_map(|series| &series.points);
    let times = TimestampMicrosecondArray::from_iter_values(points().map(|(time, _)| *time)).with_timezone(UTC);
    let metrics: StringArray = points().map(|_| Some(metric)).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(metrics)];
    for tag in 0..schema.fields().len() - 3 {
        let label = |series: &Series| series.labels.get(tag).cloned().flatten();
        let labels = all.iter().flat_map(|series| std::iter::repeat_n(label(series), series.points.len()));
        columns.push(Arc::new(labels.collect::<StringArray>()));
    }
    columns.push(Arc::new(points().map(|(_, value)| *value).collect::<Float64Array>()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    #[test]
    fn every_point_is_a_row_with_the_labels_of_its_series() {
        let schema = schema(&["host".to_owned(), "value".to_owned()]);
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["t", "metric", "host", "label_value", "value"]);
        let all = [
            Series { labels: vec![Some("a".into()), None], points: vec![(0, Some(1.0)), (1_000_000, None)] },
            Series { labels: vec![Some("b".into()), Some("x".into())], points: vec![(0, Some(2.0))] },
        ];
        let rows = rows(&schema, "m.v", &all).unwrap();
        let row = |at| -> Vec<String> {
            rows.columns().iter().map(|column| array_value_to_string(column, at).unwrap()).collect()
        };
        assert_eq!(row(0)[1..], ["m.v", "a", "", "1.0"]);
        assert_eq!(row(1)[1..], ["m.v", "a", "", ""]);
        assert_eq!(row(2)[1..], ["m.v", "b", "x", "2.0"]);
        assert_eq!(rows.num_rows(), 3);
    }
}
