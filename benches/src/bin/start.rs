//! Start-up with many parts and series, and idle memory: `cargo run --release -p juno-benches --bin start`.
//!
//! A database is made of 1,000 parts that no compaction would merge (each in a window of time of its own, of a table with a
//! retention) with a row of each of 10,000 series in every one. Then a server is started on it, several times, and asked.
//! Files are in the system's cache, as after a restart of the process.
//!
//! **Invariant:** times are from the start of the process until a client has the whole answer.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::measured::{Times, ms_since, now};
use juno_benches::{machine, rows};
use juno_sql::engine::{Db, Options, TableSchema, Write};
use juno_tests::Server;
use tokio_postgres::{Client, NoTls};

const WINDOW_US: i64 = 28 * 24 * 3_600_000_000;

/// Start-up and idle memory.
#[derive(Parser)]
struct Arguments {
    /// Parts of the table.
    #[arg(long, default_value_t = 1000)]
    parts: usize,
    /// Series, with a row in each part.
    #[arg(long, default_value_t = 10_000)]
    series: usize,
    /// Starts; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// What one start took, in milliseconds.
#[derive(Default)]
struct Taken {
    ready: Times,
    point: Times,
    newest: Times,
    counted: Times,
    resident_mib: Times,
    resident_asked_mib: Times,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let empty = Server::start()?;
    let empty_mib = machine::resident_mib(empty.pid())?;
    drop(empty);
    let mut server = Server::prepare()?;
    make(&server, &arguments)?;
    let opened_ms = open(&server)?;
    let mut taken = Taken::default();
    for _ in 0..arguments.rounds {
        let start = now();
        server.run()?;
        taken.ready.add(ms_since(start));
        taken.resident_mib.add(machine::resident_mib(server.pid())?);
        runtime.block_on(ask(&server, &arguments, start, &mut taken))?;
        taken.resident_asked_mib.add(machine::resident_mib(server.pid())?);
        server.stop()?;
    }
    let (parts, series) = (arguments.parts, arguments.series);
    println!("Start with {parts} parts and {series} series, {} rows; {}\n", parts * series, machine::describe());
    println!("| from the start of the process until | ms, median of {} |\n|---|---|", arguments.rounds);
    println!("| the library has opened the directory (within a running program) | {opened_ms:.0} |");
    println!("| the server listens | {:.0} |", taken.ready.quantile(0.5));
    println!("| it has answered a query for one series and one part | {:.0} |", taken.point.quantile(0.5));
    println!("| it has answered a query for the newest row of one series | {:.0} |", taken.newest.quantile(0.5));
    println!("| it has counted all rows | {:.0} |", taken.counted.quantile(0.5));
    println!("\n| idle memory of a server | MiB |\n|---|---|");
    println!("| on an empty directory | {empty_mib:.0} |");
    println!("| with {parts} parts, before the first query | {:.0} |", taken.resident_mib.quantile(0.5));
    println!("| with {parts} parts, after these three | {:.0} |", taken.resident_asked_mib.quantile(0.5));
    Ok(ExitCode::SUCCESS)
}

/// Makes the database: each part by a commit and a flush, far enough from the last that none belong together.
fn make(server: &Server, arguments: &Arguments) -> Result<()> {
    let db = Db::open_with(server.data(), Options { compact_in_background: false, ..Options::default() })?;
    // Rows lie in the future, so that none expires.
    db.create_table(TableSchema { retention: Some(13 * WINDOW_US), ..rows::table("cpu") })?;
    for part in 0..arguments.parts {
        let rows = rows::batch(0..arguments.series, part..part + 1, rows::START_US, WINDOW_US)?;
        db.commit(vec![Write::rows("cpu", rows)])?;
        db.flush(Some("cpu"))?;
    }
    ensure!(db.status().parts == arguments.parts, "{} parts were made", db.status().parts);
    db.close()?;
    Ok(())
}

/// Milliseconds that the library takes to open the directory.
fn open(server: &Server) -> Result<f64> {
    let start = now();
    let db = Db::open(server.data())?;
    let taken = ms_since(start);
    db.close()?;
    Ok(taken)
}

async fn ask(server: &Server, arguments: &Arguments, start: Instant, taken: &mut Taken) -> Result<()> {
    let (client, connection) =
        tokio_postgres::connect(&format!("host=127.0.0.1 port={} user=juno dbname=juno", server.pg_port()), NoTls)
            .await?;
    tokio::spawn(connection);
    let (host, part) = (arguments.series / 2, arguments.parts / 2);
    let at = part as i64 * WINDOW_US + rows::START_US;
    let name = rows::host(host);
    let point = format!("SELECT usage FROM cpu WHERE host = '{name}' AND time = to_timestamp_micros({at})");
    let found = number(&client, &point).await?;
    taken.point.add(ms_since(start));
    ensure!(found == rows::value(host, part, 0), "the value of {name} is {found}");
    let newest = format!("SELECT usage FROM cpu WHERE host = '{name}' ORDER BY time DESC LIMIT 1");
    let found = number(&client, &newest).await?;
    taken.newest.add(ms_since(start));
    ensure!(found == rows::value(host, arguments.parts - 1, 0), "the newest value of {name} is {found}");
    let counted = number(&client, "SELECT count(*)::double precision FROM cpu").await?;
    taken.counted.add(ms_since(start));
    ensure!(counted == (arguments.parts * arguments.series) as f64, "{counted} rows were counted");
    Ok(())
}

async fn number(client: &Client, sql: &str) -> Result<f64> {
    let rows = client.query(sql, &[]).await.with_context(|| sql.to_owned())?;
    Ok(rows.first().context("a row")?.try_get(0)?)
}
