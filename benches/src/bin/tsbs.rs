//! Ingest and size on the TSBS cpu-only set: `cargo run --release -p juno-benches --bin tsbs -- --data FOLDER --gauges FOLDER`.
//!
//! The folders are made by `benches/peers/generate.py`: whole numbers with `--lines`, gauges with `--decimals 2`. Parquet goes in by
//! `juno import`; line protocol by `POST /write` in bodies of 10,000 lines, one after the other, each answered after its fsync;
//! Arrow by two threads of an embedding program that commit batches of 10,000 rows, each durable when its call returns. Rows and
//! sums must agree.
//!
//! **Invariant:** processor time is that of juno alone, over all its threads; the rows wait in memory before the clock starts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use clap::Parser;
use juno_benches::machine;
use juno_benches::measured::now;
use juno_benches::table::Table;
use juno_sql::engine::{Column, Db, ScanRequest, TableKind, TableSchema, Write};
use juno_tests::{Server, juno};

const BATCH_ROWS: usize = 10_000;
const CHECK: &str =
    "SELECT count(*), sum(usage_user)::bigint, sum(usage_guest_nice)::bigint, count(DISTINCT hostname) FROM cpu";
const TAGS: &str = "hostname,region,datacenter,rack,os,arch,team,service,service_version,service_environment";

/// Ingest and size on the TSBS cpu-only set.
#[derive(Parser)]
struct Arguments {
    /// Folder with cpu.parquet and cpu.lp of whole numbers.
    #[arg(long)]
    data: PathBuf,
    /// Folder with cpu.parquet of gauges with two decimals.
    #[arg(long)]
    gauges: Option<PathBuf>,
    /// Threads that commit Arrow batches.
    #[arg(long, default_value_t = 2)]
    writers: usize,
}

/// What one way of ingest took.
struct Taken {
    way: String,
    rows: f64,
    wall_s: f64,
    cpu_s: f64,
    /// Bytes of the whole data directory afterwards.
    bytes: u64,
    /// Bytes that were written to the disk on the way there; none where another process did.
    written: Option<u64>,
    check: String,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let (parquet_file, lines_file) = (arguments.data.join("cpu.parquet"), arguments.data.join("cpu.lp"));
    let mut all = vec![parquet("whole numbers, Parquet by juno import", &parquet_file)?];
    all.push(line_protocol(&lines_file)?);
    all.extend(arrow(&parquet_file, arguments.writers)?);
    for taken in &all {
        ensure!(all[0].check == taken.check, "{} gives {}, not {}", taken.way, taken.check, all[0].check);
    }
    if let Some(gauges) = &arguments.gauges {
        all.push(parquet("gauges with 2 decimals, Parquet by juno import", &gauges.join("cpu.parquet"))?);
    }
    println!("TSBS cpu-only, {} rows; {}\n", all[0].rows, machine::describe());
    println!("| way | rows/s | CPU µs per row | bytes per row | written to the disk, bytes per row |");
    println!("|---|---|---|---|---|");
    for taken in &all {
        let (speed, cost) = (taken.rows / taken.wall_s, taken.cpu_s * 1e6 / taken.rows);
        let written = taken.written.map_or("–".into(), |written| format!("{:.1}", written as f64 / taken.rows));
        println!("| {} | {speed:.0} | {cost:.2} | {:.2} | {written} |", taken.way, taken.bytes as f64 / taken.rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn parquet(way: &str, file: &Path) -> Result<Taken> {
    let mut server = Server::prepare()?;
    let (start, before) = (now(), machine::children_cpu_seconds()?);
    let data = server.data().display().to_string();
    let file = file.to_str().context("a UTF-8 path")?;
    let status =
        juno(&["import", file, "--table", "cpu", "--data", &data, "--time", "time", "--tags", TAGS]).status()?;
    ensure!(status.success(), "juno import ended with {status}");
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), machine::children_cpu_seconds()? - before);
    server.run()?;
    measured(way, wall_s, cpu_s, &server, false)
}

fn line_protocol(file: &Path) -> Result<Taken> {
    let server = Server::start()?;
    let lines =
        BufReader::new(std::fs::File::open(file).with_context(|| format!("{} cannot be opened", file.display()))?);
    let before = machine::cpu_seconds(server.pid())?;
    let (mut wall_s, mut body, mut count) = (0.0, String::new(), 0);
    for line in lines.lines() {
        body.push_str(&line?);
        body.push('\n');
        count += 1;
        if count % BATCH_ROWS == 0 {
            wall_s += send(&server, std::mem::take(&mut body))?;
        }
    }
    if !body.is_empty() {
        wall_s += send(&server, body)?;
    }
    let cpu_s = machine::cpu_seconds(server.pid())? - before;
    measured("whole numbers, line protocol by POST /write", wall_s, cpu_s, &server, true)
}

fn send(server: &Server, body: String) -> Result<f64> {
    let start = now();
    let answer = ureq::post(server.url("/write?precision=ns")).send(body)?;
    ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    Ok(start.elapsed().as_secs_f64())
}

fn measured(way: &str, wall_s: f64, cpu_s: f64, server: &Server, count_written: bool) -> Result<Taken> {
    server.psql(&["--command", "CALL flush()"])?;
    let bytes = machine::folder_bytes(server.data())?;
    let written = if count_written { Some(machine::written_bytes(server.pid())?) } else { None };
    let check = server.psql(&["--csv", "--tuples-only", "--command", CHECK])?.trim().to_owned();
    let rows: f64 = check.split(',').next().context("a count")?.parse()?;
    Ok(Taken { way: way.to_owned(), rows, wall_s, cpu_s, bytes, written, check })
}

/// Batches by an embedding program: until the last is acknowledged, and until all rows are in parts.
fn arrow(file: &Path, writers: usize) -> Result<[Taken; 2]> {
    let batches = Table::read(file)?.batches(BATCH_ROWS);
    let rows: f64 = batches.iter().map(|batch| batch.num_rows() as f64).sum();
    let schema = telemetry(&batches[0]);
    let directory = tempfile::tempdir()?;
    let db = Db::open(directory.path().join("data"))?;
    db.create_table(schema)?;
    let waiting = Mutex::new(batches.into_iter());
    let next = || waiting.lock().map_or(None, |mut waiting| waiting.next());
    let (process, start) = (std::process::id(), now());
    let (before, written_before) = (machine::cpu_seconds(process)?, machine::written_bytes(process)?);
    std::thread::scope(|scope| {
        let write = || -> Result<()> {
            while let Some(batch) = next() {
                db.commit(vec![Write::rows("cpu", batch)])?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer does not panic"))
    })?;
    let (acknowledged_s, acknowledged_cpu_s) = (start.elapsed().as_secs_f64(), machine::cpu_seconds(process)? - before);
    db.flush(None)?;
    let (flushed_s, flushed_cpu_s) = (start.elapsed().as_secs_f64(), machine::cpu_seconds(process)? - before);
    let written = Some(machine::written_bytes(process)? - written_before);
    let bytes = machine::folder_bytes(directory.path())?;
    let check = check(&db)?;
    let taken = |way: &str, wall_s, cpu_s| Taken {
        way: format!("whole numbers, Arrow batches, {writers} writers, {way}"),
        rows,
        wall_s,
        cpu_s,
        bytes,
        written,
        check: check.clone(),
    };
    Ok([
        taken("until acknowledged", acknowledged_s, acknowledged_cpu_s),
        taken("until flushed", flushed_s, flushed_cpu_s),
    ])
}

/// The table that an import of these rows would make.
fn telemetry(rows: &RecordBatch) -> TableSchema {
    let schema = rows.schema();
    let column = |field: &arrow::datatypes::FieldRef| {
        let tag = matches!(field.data_type(), DataType::Dictionary(_, _));
        let kind = if tag { TableSchema::tag_type() } else { field.data_type().clone() };
        Column::new(field.name(), kind, field.name() != "time")
    };
    let columns: Vec<Column> = schema.fields().iter().map(column).collect();
    let tags = TAGS.split(',').chain(["time"]);
    let key = tags.filter_map(|name| columns.iter().position(|column| column.name == name)).collect();
    let time = columns.iter().position(|column| column.name == "time").unwrap_or(0);
    TableSchema { name: "cpu".into(), columns, key, kind: TableKind::Telemetry { time }, retention: None }
}

/// What [`CHECK`] prints, by a scan.
fn check(db: &Db) -> Result<String> {
    let snapshot = db.snapshot();
    let table = snapshot.table("cpu").context("the table was created")?;
    let at = |name: &str| table.schema().column(name).with_context(|| format!("no column {name}"));
    let projection = vec![at("usage_user")?, at("usage_guest_nice")?, at("hostname")?];
    let (mut rows, mut sums, mut hosts) = (0, [0.0; 2], std::collections::BTreeSet::new());
    for slice in table.scan(&ScanRequest { projection, ..ScanRequest::default() })? {
        for batch in slice.read()? {
            let batch = batch?;
            rows += batch.num_rows();
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum += batch.column(index).as_primitive::<Float64Type>().values().iter().sum::<f64>();
            }
            let names = arrow::compute::cast(batch.column(2), &DataType::Utf8)?;
            for name in names.as_string::<i32>().iter().flatten() {
                if !hosts.contains(name) {
                    hosts.insert(name.to_owned());
                }
            }
        }
    }
    Ok(format!("{rows},{},{},{}", sums[0], sums[1], hosts.len()))
}
