//! Rows looked up by a random primary key: `cargo run --release -p juno-benches --bin ids`.
//!
//! A key table of UUIDs of version 4 lies in one part, as compaction leaves it, or in several whose ids all span the same range,
//! as before compaction: no bound of a part or a page tells which of them has an id. A bloom filter would at best make a look-up
//! in several parts as quick as in one.
//!
//! **Invariant:** nothing compacts; every look-up is of another id, and its answer is checked.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::record_batch::RecordBatch;
use clap::Parser;
use juno_benches::machine;
use juno_benches::measured::{Times, ms_since, now};
use juno_sql::Session;
use juno_sql::engine::{Db, Options, Write};
use juno_sql::kernels::Device;

/// Look-ups by a random primary key.
#[derive(Parser)]
struct Arguments {
    /// Rows of the table.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Look-ups of each kind.
    #[arg(long, default_value_t = 300)]
    lookups: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("Look-ups in a key table of {} random UUIDs; {}\n", arguments.rows, machine::describe());
    println!("| parts | id | p50 ms | CPU ms |\n|---|---|---|---|");
    for parts in [1, 4, 16] {
        let directory = tempfile::tempdir()?;
        let options = Options { compact_in_background: false, ..Options::default() };
        let db = Db::open_with(directory.path().join("data"), options)?;
        let session = runtime.block_on(Session::open(db, Device::cpu()))?;
        runtime.block_on(session.collect("CREATE TABLE ids (id UUID PRIMARY KEY, v DOUBLE PRECISION)"))?;
        fill(session.db(), arguments.rows, parts)?;
        for (name, there) in [("there", true), ("not there", false)] {
            let mut times = Times::default();
            let cpu = machine::threads_cpu_seconds()?;
            for lookup in 0..arguments.lookups {
                let row = lookup * 7919 % arguments.rows;
                let number = if there { row } else { row + arguments.rows };
                let sql = format!("SELECT v FROM ids WHERE id = '{}'", id(number));
                let start = now();
                let found = runtime.block_on(session.collect(&sql))?;
                times.add(ms_since(start));
                let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
                ensure!(rows == usize::from(there), "{rows} rows have the id of row {number}");
            }
            let cpu_ms = (machine::threads_cpu_seconds()? - cpu) * 1e3 / arguments.lookups as f64;
            println!("| {parts} | {name} | {:.2} | {cpu_ms:.2} |", times.quantile(0.5));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The id of a row: as random as a UUID of version 4, and the same in every run.
fn id(row: usize) -> String {
    let mut mixed = row as u64 ^ 0x2545_F491_4F6C_DD1D;
    let mut next = || {
        mixed = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let (a, b) = (next().rotate_left(17) ^ next(), next());
    let (version, variant) = (a >> 12 & 0xFFF, 0x8000 | (b >> 48 & 0x3FFF));
    format!("{:08x}-{:04x}-4{version:03x}-{variant:04x}-{:012x}", a >> 32, a >> 16 & 0xFFFF, b & 0xFFFF_FFFF_FFFF)
}

fn fill(db: &Db, rows: usize, parts: usize) -> Result<()> {
    let each = rows.div_ceil(parts);
    for first in (0..rows).step_by(each) {
        let numbers = first..(first + each).min(rows);
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(id)));
        let values: ArrayRef = Arc::new(Float64Array::from_iter_values(numbers.map(|row| row as f64)));
        db.commit(vec![Write::rows("ids", RecordBatch::try_from_iter([("id", ids), ("v", values)])?)])?;
        db.flush(Some("ids"))?;
    }
    let found = db.snapshot().table("ids").map_or(0, |table| table.parts());
    ensure!(found == parts, "{found} parts, not {parts}");
    Ok(())
}
