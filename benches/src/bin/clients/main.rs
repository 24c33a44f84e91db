//! Many clients that read and write at once: `cargo run --release -p juno-benches --bin clients -- --seconds 300`.
//!
//! 60 clients read by the PostgreSQL protocol (of ten queries seven ask for an hour of one host, two for the newest row of all
//! hosts, one for hourly means of all hosts over 12 hours), 20 insert 100 rows at a time by SQL and 20 send 1,000 lines at a time
//! to `POST /write`. Each begins a request every `--every-ms`, or as soon as the last is answered where that takes longer; with 0
//! all clients ask without pause and the machine is saturated. All of them use one table. The server is killed in the end and
//! started anew, and every acknowledged row must be there once.
//!
//! **Invariant:** what was read under load is compared with what must be there.

mod load;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::measured::{Times, ms_since, now};
use juno_benches::{machine, rows};
use juno_sql::engine::Db;
use juno_tests::Server;
use load::{Load, Reader, connect};

/// Hosts and ticks that are there before the clients come.
const HOSTS: usize = 100;
const TICKS: usize = 12 * 360;
const STEP_US: i64 = 10_000_000;
/// Ticks of a batch while the table is filled.
const BATCH_TICKS: usize = 360;
/// Queries for the idle median.
const IDLE_QUERIES: u64 = 300;

/// Many clients.
#[derive(Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Clients that read.
    #[arg(long, default_value_t = 60)]
    readers: usize,
    /// Clients that insert by SQL.
    #[arg(long, default_value_t = 20)]
    inserters: usize,
    /// Clients that send line protocol.
    #[arg(long, default_value_t = 20)]
    senders: usize,
    /// Milliseconds from the beginning of a client's request to that of its next; 0 for no pause.
    #[arg(long, default_value_t = 1000)]
    every_ms: u64,
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut server = Server::prepare()?;
    fill(&server)?;
    server.run()?;
    let idle = runtime.block_on(idle(&server))?;
    let cpu = machine::cpu_seconds(server.pid())?;
    let load = runtime.block_on(load::run(&server, &arguments))?;
    let cpu = machine::cpu_seconds(server.pid())? - cpu;
    let peak_mib = machine::peak_mib(server.pid())?;
    server.kill()?;
    server.run()?;
    let lost = load.lost(&server)?;
    report(&arguments, &load, &idle);
    let busy = cpu / arguments.seconds as f64 * 100.0;
    println!("\nThe server used {busy:.0} % of one core and at most {peak_mib:.0} MiB. After kill -9 and a new start:");
    println!("{} acknowledged rows, {lost} of them lost or changed.", load.acknowledged());
    for error in load.errors.iter().take(10) {
        println!("error: {error}");
    }
    let good = load.errors.is_empty() && lost == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// 12 hours of all hosts, in parts.
fn fill(server: &Server) -> Result<()> {
    let db = Db::open(server.data())?;
    db.create_table(rows::table("cpu"))?;
    let batches = (0..TICKS).step_by(BATCH_TICKS).map(|tick| {
        rows::batch(0..HOSTS, tick..(tick + BATCH_TICKS).min(TICKS), rows::START_US, STEP_US)
            .map_err(anyhow::Error::from)
    });
    let report =
        db.import("cpu", batches.collect::<Result<Vec<_>>>()?.into_iter().map(Ok::<_, juno_sql::engine::Error>))?;
    ensure!(report.rows == (HOSTS * TICKS) as u64, "{} rows were imported", report.rows);
    db.close()?;
    Ok(())
}

/// Times of the query for one host by the only client.
async fn idle(server: &Server) -> Result<Times> {
    let reader = Reader::new(connect(server.pg_port()).await?).await?;
    let mut times = Times::default();
    for number in 0..IDLE_QUERIES {
        let start = now();
        reader.one_host(number).await.context("an idle server")?;
        // The first ones make plans and fill caches.
        if number >= IDLE_QUERIES / 10 {
            times.add(ms_since(start));
        }
    }
    Ok(times)
}

fn report(arguments: &Arguments, load: &Load, idle: &Times) {
    let clients = arguments.readers + arguments.inserters + arguments.senders;
    let pace = match arguments.every_ms {
        0 => "without pause".to_owned(),
        every => format!("a request every {every} ms"),
    };
    println!("{clients} clients for {} s, each {pace}; {}\n", arguments.seconds, machine::describe());
    println!("| request | answered | told to wait | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|---|");
    let line = |name: &str, times: &Times, waits: u64| {
        let (middle, late, last) = (times.quantile(0.5), times.quantile(0.99), times.quantile(1.0));
        println!("| {name} | {} | {waits} | {middle:.2} | {late:.2} | {last:.1} |", times.count());
    };
    line("one host, one hour, idle", idle, 0);
    line("one host, one hour", &load.one_host, 0);
    line("newest row of all hosts", &load.newest, 0);
    line("hourly means of all hosts, 12 h", &load.means, 0);
    line("INSERT of 100 rows", &load.inserts, 0);
    line("POST /write of 1,000 lines", &load.posts, load.told_to_wait);
    let ratio = load.one_host.quantile(0.99) / idle.quantile(0.5);
    println!("\nOne host, one hour: p99 under load is {ratio:.1} × the idle median; {} errors.", load.errors.len());
}
