//! The rows of one table, as columns that grow.
//!
//! **Invariant:** every column is as long as the table or shorter by rows that are null; `add` changes nothing when it fails.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, DictionaryArray, Float64Builder, Int32Builder, Int64Builder, StringArray, StringBuilder,
    TimestampMicrosecondArray, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use influxdb_line_protocol::{FieldValue, ParsedLine};
use juno_sql::Incoming;

use super::plain::{self, Number};
use crate::ingest::known::Known;
use crate::ingest::shape::{COLUMNS_MAX, NAME_BYTES_MAX, TIME_NAME};

pub(super) struct TableRows {
    pub(super) name: String,
    /// The number of the first line that was added.
    pub(super) first_line: u64,
    known: Option<Known>,
    times_us: Vec<i64>,
    columns: Vec<Column>,
    index: HashMap<String, usize>,
    /// The columns of the line before, in its order: the next line mostly has the same.
    recent: Vec<usize>,
    /// The fields among them, in the line's order.
    recent_fields: Vec<usize>,
    /// The numbers of the line that is being added.
    numbers: Vec<Number>,
    /// Lines seen, bad ones too.
    lines: u64,
}

/// The tags of a series, as places in its table.
pub(super) struct Series {
    pub(super) table: usize,
    /// Which column, and the value's place in its dictionary.
    pub(super) tags: Vec<(usize, i32)>,
}

struct Column {
    name: String,
    values: Values,
    len: usize,
    /// The last line that named the column, to find doubles.
    named_by: u64,
}

enum Values {
    Tag(Tags),
    Float(Float64Builder),
    Integer(Int64Builder),
    Unsigned(UInt64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
}

/// A dictionary that grows.
#[derive(Default)]
struct Tags {
    keys: Int32Builder,
    values: Vec<String>,
    index: HashMap<String, i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag,
    Float,
    Integer,
    Unsigned,
    Boolean,
    Text,
}

/// A value on its way into a column.
#[derive(Clone, Copy)]
enum Value<'a> {
    Tag(&'a str),
    Field(&'a FieldValue<'a>),
}

impl TableRows {
    pub(super) fn new(name: &str, known: Option<Known>) -> TableRows {
        TableRows {
            name: name.to_owned(),
            first_line: 0,
            known,
            times_us: vec![],
            columns: vec![],
            index: HashMap::new(),
            recent: vec![],
            recent_fields: vec![],
            numbers: vec![],
            lines: 0,
        }
    }

    /// Adds a line's values as one row.
    pub(super) fn add(&mut self, line: &ParsedLine<'_>, number: u64, time_us: i64) -> Result<(), String> {
        self.check_table()?;
        self.lines += 1;
        let row = self.times_us.len() + 1;
        let tags =
            line.series.tag_set.iter().flatten().map(|(name, value)| (name.as_str(), Value::Tag(value.as_str())));
        let fields = line.field_set.iter().map(|(name, value)| (name.as_str(), Value::Field(value)));
        let mut places: Vec<usize> = Vec::with_capacity(self.recent.len());
        let mut new: Vec<(&str, Kind)> = vec![];
        for (name, value) in tags.clone().chain(fields.clone()) {
            value.check_finite(name)?;
            let place = match self.find(name, places.len()) {
                Some(at) => {
                    self.check(at, &value)?;
                    at
                }
                None => {
                    let kind = self.new_kind(name, &value)?;
                    if new.iter().any(|(other, _)| *other == name) {
                        return Err(format!("\"{name}\" stands twice in the line"));
                    }
                    new.push((name, kind));
                    self.columns.len() + new.len() - 1
                }
            };
            places.push(place);
        }
        if self.columns.len() + new.len() > COLUMNS_MAX {
            return Err(format!("table \"{}\" would have more than {COLUMNS_MAX} columns", self.name));
        }
        for (name, kind) in new {
            self.index.insert(name.to_owned(), self.columns.len());
            self.columns.push(Column { name: name.to_owned(), values: Values::new(kind), len: 0, named_by: 0 });
        }
        for (place, (_, value)) in places.iter().zip(tags.chain(fields)) {
            self.columns[*place].at(row - 1).push(&value);
        }
        if row == 1 {
            self.first_line = number;
        }
        self.times_us.push(time_us);
        self.recent_fields = places.split_off(places.len() - line.field_set.len());
        self.recent = places;
        self.recent.extend(&self.recent_fields);
        Ok(())
    }

    /// The tags of a line as places; None where the table has no such columns yet.
    pub(super) fn find_tags(&mut self, tags: &[(&str, &str)]) -> Option<Vec<(usize, i32)>> {
        let mut found: Vec<(usize, i32)> = Vec::with_capacity(tags.len());
        for (name, value) in tags {
            let place = *self.index.get(*name)?;
            let Values::Tag(column) = &mut self.columns[place].values else { return None };
            if found.iter().any(|(other, _)| *other == place) {
                return None;
            }
            found.push((place, column.place(value)));
        }
        Some(found)
    }

    /// Adds a line with these tags and the fields of the line before, plain numbers; None where it has others.
    pub(super) fn add_plain(
        &mut self,
        tags: &[(usize, i32)],
        mut fields: &[u8],
        number: u64,
        time_us: i64,
    ) -> Option<()> {
        self.numbers.clear();
        for (at, &place) in self.recent_fields.iter().enumerate() {
            let column = &self.columns[place];
            if at > 0 {
                fields = fields.strip_prefix(b",")?;
            }
            let text = fields.strip_prefix(column.name.as_bytes())?.strip_prefix(b"=")?;
            let (found, rest) = plain::number(text)?;
            match (&column.values, found) {
                (Values::Float(_), Number::Float(_)) | (Values::Integer(_), Number::Integer(_)) => {}
                _ => return None,
            }
            self.numbers.push(found);
            fields = rest;
        }
        if !fields.is_empty() || self.numbers.is_empty() {
            return None;
        }
        let row = self.times_us.len();
        self.lines += 1;
        if row == 0 {
            self.first_line = number;
        }
        for &(place, key) in tags {
            let column = self.columns[place].at(row);
            if let Values::Tag(tags) = column {
                tags.keys.append_value(key);
            }
        }
        for (&place, number) in self.recent_fields.iter().zip(&self.numbers) {
            match (self.columns[place].at(row), number) {
                (Values::Float(all), Number::Float(value)) => all.append_value(*value),
                (Values::Integer(all), Number::Integer(value)) => all.append_value(*value),
                _ => unreachable!("every number was checked"),
            }
        }
        self.times_us.push(time_us);
        Some(())
    }

    fn check_table(&self) -> Result<(), String> {
        let name = &self.name;
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("the measurement's name is longer than {NAME_BYTES_MAX} bytes"));
        }
        match &self.known {
            Some(Known { time: None, .. }) => {
                Err(format!("table \"{name}\" has a primary key and no time column; write to it by SQL"))
            }
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str, position: usize) -> Option<usize> {
        match self.recent.get(position) {
            Some(at) if self.columns[*at].name == name => Some(*at),
            _ => self.index.get(name).copied(),
        }
    }

    fn check(&mut self, at: usize, value: &Value<'_>) -> Result<(), String> {
        let column = &mut self.columns[at];
        if !column.values.takes(value) {
            return Err(conflict(&column.name, column.values.kind(), value.kind()));
        }
        if column.named_by == self.lines {
            return Err(format!("\"{}\" stands twice in the line", column.name));
        }
        column.named_by = self.lines;
        Ok(())
    }

    /// The kind of a column that this text has not named so far: the table's own, or the value's where the table has none.
    fn new_kind(&self, name: &str, value: &Value<'_>) -> Result<Kind, String> {
        let time = self.known.as_ref().and_then(|known| known.time.as_deref()).unwrap_or(TIME_NAME);
        if name == time || name == TIME_NAME {
            return Err(format!("\"{name}\" is the name of the time column"));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with("__") {
            return Err(format!("a column cannot be named \"{}\"", name.chars().take(40).collect::<String>()));
        }
        let given = value.kind();
        let Some(known) = &self.known else {
            return Ok(given);
        };
        let wanted = match known.fields.get(name) {
            Some(data_type) => Kind::of(data_type).ok_or_else(|| {
                format!(
                    "column \"{name}\" of table \"{}\" is {data_type}, which line protocol cannot write",
                    known.name
                )
            })?,
            None if known.tags.iter().any(|tag| tag == name) => Kind::Tag,
            None => given,
        };
        if Values::new(wanted).takes(value) { Ok(wanted) } else { Err(conflict(name, wanted, given)) }
    }

    /// Lines that were added.
    pub(super) fn accepted(&self) -> u64 {
        self.times_us.len() as u64
    }

    /// One row for each line as a batch; None where there are none.
    pub(super) fn finish(self) -> Option<Incoming> {
        let rows = self.times_us.len();
        if rows == 0 {
            return None;
        }
        let time = self.known.and_then(|known| known.time).unwrap_or_else(|| TIME_NAME.to_owned());
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(self.times_us).with_timezone("+00:00"));
        let mut fields = vec![Field::new(&time, times.data_type().clone(), false)];
        let (mut columns, mut tags) = (vec![times], vec![]);
        for mut column in self.columns {
            column.values.pad(rows - column.len);
            if column.values.kind() == Kind::Tag {
                tags.push(column.name.clone());
            }
            let array = column.values.finish();
            fields.push(Field::new(column.name, array.data_type().clone(), true));
            columns.push(array);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .expect("all columns were padded to one length");
        Some(Incoming { table: self.name, rows, time, tags })
    }
}

impl Column {
    /// The values with nulls up to a row, which the caller must add.
    fn at(&mut self, row: usize) -> &mut Values {
        if row > self.len {
            self.values.pad(row - self.len);
        }
        self.len = row + 1;
        &mut self.values
    }
}

impl Tags {
    /// The place of a value in the dictionary.
    fn place(&mut self, value: &str) -> i32 {
        if let Some(place) = self.index.get(value) {
            return *place;
        }
        let place = i32::try_from(self.values.len()).expect("a text has less than 2^31 tags");
        self.values.push(value.to_owned());
        self.index.insert(value.to_owned(), place);
        place
    }

    fn push(&mut self, value: &str) {
        let place = self.place(value);
        self.keys.append_value(place);
    }

    fn finish(&mut self) -> ArrayRef {
        let values = StringArray::from_iter_values(&self.values);
        let tags = DictionaryArray::try_new(self.keys.finish(), Arc::new(values));
        Arc::new(tags.expect("every key is a place among the values"))
    }
}

fn conflict(name: &str, wanted: Kind, given: Kind) -> String {
    format!("\"{name}\" is {}, this line has {}", wanted.noun(), given.noun())
}

impl Kind {
    fn of(data_type: &DataType) -> Option<Kind> {
        Some(match data_type {
            DataType::Float64 => Kind::Float,
            DataType::Int64 => Kind::Integer,
            DataType::UInt64 => Kind::Unsigned,
            DataType::Boolean => Kind::Boolean,
            DataType::Utf8 => Kind::Text,
            DataType::Dictionary(_, _) => Kind::Tag,
            _ => return None,
        })
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Tag => "a tag",
            Kind::Float => "a float field",
            Kind::Integer => "an integer field",
            Kind::Unsigned => "an unsigned integer field",
            Kind::Boolean => "a boolean field",
            Kind::Text => "a text field",
        }
    }
}

impl Value<'_> {
    fn check_finite(&self, name: &str) -> Result<(), String> {
        match self {
            Value::Field(FieldValue::F64(value)) if !value.is_finite() => {
                Err(format!("\"{name}\" is not a finite number"))
            }
            _ => Ok(()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Value::Tag(_) => Kind::Tag,
            Value::Field(FieldValue::F64(_)) => Kind::Float,
            Value::Field(FieldValue::I64(_)) => Kind::Integer,
            Value::Field(FieldValue::U64(_)) => Kind::Unsigned,
            Value::Field(FieldValue::Boolean(_)) => Kind::Boolean,
            Value::Field(FieldValue::String(_)) => Kind::Text,
        }
    }
}

impl Values {
    fn new(kind: Kind) -> Values {
        match kind {
            Kind::Tag => Values::Tag(Tags::default()),
            Kind::Float => Values::Float(Float64Builder::new()),
            Kind::Integer => Values::Integer(Int64Builder::new()),
            Kind::Unsigned => Values::Unsigned(UInt64Builder::new()),
            Kind::Boolean => Values::Boolean(BooleanBuilder::new()),
            Kind::Text => Values::Text(StringBuilder::new()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Values::Tag(_) => Kind::Tag,
            Values::Float(_) => Kind::Float,
            Values::Integer(_) => Kind::Integer,
            Values::Unsigned(_) => Kind::Unsigned,
            Values::Boolean(_) => Kind::Boolean,
            Values::Text(_) => Kind::Text,
        }
    }

    /// True where the value goes in without loss: its own kind, integers into floats, integers into the other sign.
    fn takes(&self, value: &Value<'_>) -> bool {
        const EXACT_MAX: u64 = 1 << 53;
        match (self, value) {
            (Values::Float(_), Value::Field(FieldValue::I64(value))) => value.unsigned_abs() <= EXACT_MAX,
            (Values::Float(_), Value::Field(FieldValue::U64(value))) => *value <= EXACT_MAX,
            (Values::Integer(_), Value::Field(FieldValue::U64(value))) => i64::try_from(*value).is_ok(),
            (Values::Unsigned(_), Value::Field(FieldValue::I64(value))) => *value >= 0,
            _ => self.kind() == value.kind(),
        }
    }

    fn push(&mut self, value: &Value<'_>) {
        match (self, value) {
            (Values::Tag(tags), Value::Tag(value)) => tags.push(value),
            (Values::Float(all), Value::Field(FieldValue::F64(value))) => all.append_value(*value),
            (Values::Float(all), Value::Field(FieldValue::I64(value))) => all.append_value(*value as f64),
            (Values::Float(all), Value::Field(FieldValue::U64(value))) => all.append_value(*value as f64),
            (Values::Integer(all), Value::Field(FieldValue::I64(value))) => all.append_value(*value),
            (Values::Integer(all), Value::Field(FieldValue::U64(value))) => all.append_value(*value as i64),
            (Values::Unsigned(all), Value::Field(FieldValue::U64(value))) => all.append_value(*value),
            (Values::Unsigned(all), Value::Field(FieldValue::I64(value))) => all.append_value(*value as u64),
            (Values::Boolean(all), Value::Field(FieldValue::Boolean(value))) => all.append_value(*value),
            (Values::Text(all), Value::Field(FieldValue::String(value))) => all.append_value(value.as_str()),
            _ => unreachable!("every value was checked by takes"),
        }
    }

    fn pad(&mut self, rows: usize) {
        match self {
            Values::Tag(all) => all.keys.append_nulls(rows),
            Values::Float(all) => all.append_nulls(rows),
            Values::Integer(all) => all.append_nulls(rows),
            Values::Unsigned(all) => all.append_nulls(rows),
            Values::Boolean(all) => all.append_nulls(rows),
            Values::Text(all) => (0..rows).for_each(|_| all.append_null()),
        }
    }

    fn finish(mut self) -> ArrayRef {
        match &mut self {
            Values::Tag(all) => all.finish(),
            Values::Float(all) => Arc::new(all.finish()),
            Values::Integer(all) => Arc::new(all.finish()),
            Values::Unsigned(all) => Arc::new(all.finish()),
            Values::Boolean(all) => Arc::new(all.finish()),
            Values::Text(all) => Arc::new(all.finish()),
        }
    }
}
