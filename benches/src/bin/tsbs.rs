//! Ingest and size on the TSBS cpu-only set: `cargo run --release -p juno-benches --bin tsbs -- --data FOLDER`.
//!
//! The folder holds cpu.parquet and cpu.lp (100 hosts × 72 h, every 10 s, 10 fields). Both go in: Parquet by `juno import`, line
//! protocol by `POST /write` in bodies of 10,000 lines, each answered after its fsync. Rows and sums must agree.
//!
//! **Invariant:** processor time is that of juno alone, over all its threads.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use juno_benches::machine;
use juno_tests::{Server, juno};

const BODY_LINES: usize = 10_000;
const CHECK: &str = "SELECT count(*), sum(usage_user), sum(usage_guest_nice), count(DISTINCT hostname) FROM cpu";

/// Ingest and size on the TSBS cpu-only set.
#[derive(Parser)]
struct Arguments {
    /// Folder with cpu.parquet and cpu.lp.
    #[arg(long)]
    data: PathBuf,
}

/// What one way of ingest took.
struct Taken {
    way: &'static str,
    wall_s: f64,
    cpu_s: f64,
    bytes: u64,
    check: String,
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let arguments = Arguments::parse();
    let all = [parquet(&arguments.data.join("cpu.parquet"))?, line_protocol(&arguments.data.join("cpu.lp"))?];
    ensure!(all[0].check == all[1].check, "the two ways disagree: {} and {}", all[0].check, all[1].check);
    let rows: f64 = all[0].check.split(',').next().context("a count")?.parse()?;
    println!("TSBS cpu-only, {rows} rows; {}", machine::describe());
    println!("| way | rows/s | CPU µs per row | bytes per row |\n|---|---|---|---|");
    for taken in &all {
        let (speed, cost) = (rows / taken.wall_s, taken.cpu_s * 1e6 / rows);
        println!("| {} | {speed:.0} | {cost:.2} | {:.2} |", taken.way, taken.bytes as f64 / rows);
    }
    println!("memory of an idle server after start: {:.0} MiB", idle()?);
    Ok(ExitCode::SUCCESS)
}

fn parquet(file: &Path) -> Result<Taken> {
    let mut server = Server::prepare()?;
    let (start, before) = (now(), machine::children_cpu_seconds()?);
    let data = server.data().display().to_string();
    let file = file.to_str().context("a UTF-8 path")?;
    let tags = "hostname,region,datacenter,rack,os,arch,team,service,service_version,service_environment";
    let status =
        juno(&["import", file, "--table", "cpu", "--data", &data, "--time", "time", "--tags", tags]).status()?;
    ensure!(status.success(), "juno import ended with {status}");
    let (wall_s, cpu_s) = (start.elapsed().as_secs_f64(), machine::children_cpu_seconds()? - before);
    server.run()?;
    measured("Parquet by juno import", wall_s, cpu_s, &server)
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
        if count % BODY_LINES == 0 {
            wall_s += send(&server, std::mem::take(&mut body))?;
        }
    }
    wall_s += send(&server, body)?;
    let cpu_s = machine::cpu_seconds(server.pid())? - before;
    measured("line protocol by POST /write", wall_s, cpu_s, &server)
}

fn send(server: &Server, body: String) -> Result<f64> {
    let start = now();
    let answer = ureq::post(server.url("/write?precision=ns")).send(body)?;
    ensure!(answer.status() == 204, "a write was answered {}", answer.status());
    Ok(start.elapsed().as_secs_f64())
}

fn measured(way: &'static str, wall_s: f64, cpu_s: f64, server: &Server) -> Result<Taken> {
    server.psql(&["--command", "CALL flush()"])?;
    let bytes = machine::folder_bytes(server.data())?;
    let check = server.psql(&["--csv", "--tuples-only", "--command", CHECK])?.trim().to_owned();
    Ok(Taken { way, wall_s, cpu_s, bytes, check })
}

fn idle() -> Result<f64> {
    let server = Server::start()?;
    machine::resident_mib(server.pid())
}
