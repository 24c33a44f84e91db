//! juno within a program, asked by `benches/peers/peers.py`: a statement a line in, what it took a line out.
//!
//! `cargo run --release -p juno-benches --bin embedded -- --data FOLDER` prints `ready`, then for each line of standard input
//! `{"rows": …, "sums": […], "cpu_ms": …, "wall_ms": …}`: processor time is over all threads, sums are of the columns of doubles.
//!
//! **Invariant:** takes every row as Arrow, as an embedding program would; adds up outside the measured time.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::sum;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use clap::Parser;
use juno_benches::machine;
use juno_benches::measured::now;
use juno_sql::Session;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;

/// juno within a program.
#[derive(Parser)]
struct Arguments {
    /// Data directory.
    #[arg(long)]
    data: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let session = Arc::new(runtime.block_on(open(arguments.data))?);
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let (wall, cpu) = (now(), machine::threads_cpu_seconds()?);
        // On a worker, as a server would: the thread that reads lines has no part in it.
        let asked = Arc::clone(&session);
        let text = line.clone();
        let batches = runtime.block_on(runtime.spawn(async move { asked.collect(&text).await }))?;
        let batches = batches.with_context(|| line.clone())?;
        let (cpu_ms, wall_ms) = ((machine::threads_cpu_seconds()? - cpu) * 1e3, wall.elapsed().as_secs_f64() * 1e3);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let sums = sums(&batches);
        println!("{{\"rows\": {rows}, \"sums\": {sums:?}, \"cpu_ms\": {cpu_ms}, \"wall_ms\": {wall_ms}}}");
        stdout().flush()?;
    }
    Ok(())
}

async fn open(data: PathBuf) -> Result<Session> {
    let db = Db::open(data)?;
    Ok(Session::open(db, Device::cpu()).await?)
}

/// The sum of each column of doubles.
fn sums(batches: &[RecordBatch]) -> Vec<f64> {
    let Some(first) = batches.first() else { return Vec::new() };
    let doubles =
        first.schema().fields().iter().map(|field| field.data_type() == &DataType::Float64).collect::<Vec<_>>();
    let column = |index: usize| {
        batches.iter().filter_map(|batch| sum(batch.column(index).as_primitive::<Float64Type>())).sum::<f64>()
    };
    (0..doubles.len()).filter(|&index| doubles[index]).map(column).collect()
}
