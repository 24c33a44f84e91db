//! REST over long history tables, and under load: `cargo run --release -p juno-benches --bin rest`.
//!
//! Each history table gets `--rows` rows of the last 400 days. One client asks for the status and for pages, one request after
//! another while nobody else does; then `--clients` ask for `--seconds`: of ten requests seven read a page or the status, two write
//! 100 lines and one posts a maintenance window with an idempotency key. The server is killed in the end and started anew, and every
//! acknowledged row and window must be there once.
//!
//! **Invariant:** a request counts when its answer has the status that it must have.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use juno_benches::measured::{Times, ms_since, now};
use juno_sql::Session;
use juno_sql::engine::Db;
use juno_sql::kernels::Device;
use juno_tests::Server;
use tokio::task::JoinSet;

/// Requests of each kind while the server is idle.
const ALONE: usize = 300;
/// Rows of one INSERT.
const CHUNK: usize = 100_000;
/// Lines of one request.
const LINES: u64 = 100;
/// What is read, and the longest 99 % of the answers may take, in ms.
const READS: [(&str, f64); 6] = [
    ("/api/v4/operations/status", 50.0),
    ("/api/v4/healing/incidents?from=now-7d", 20.0),
    ("/api/v4/threats/history?from=now-7d", 20.0),
    ("/api/v4/threats/alerts", 20.0),
    ("/api/v4/scaling/history?from=now-7d", 20.0),
    ("/api/v4/governance/adaptations", 20.0),
];

/// REST over long tables and under load.
#[derive(Parser)]
struct Arguments {
    /// Rows of each history table.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Clients.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// How long they ask.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
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
    runtime.block_on(fill(&server, arguments.rows))?;
    server.run()?;
    println!("{} rows in each history table; one client, {ALONE} requests of each kind, ms", arguments.rows);
    println!("{:<44} {:>8} {:>8} {:>8} {:>10}", "request", "p50", "p99", "max", "to reach");
    runtime.block_on(alone(&server))?;
    let asked = runtime.block_on(together(&server, &arguments))?;
    server.kill()?;
    server.run()?;
    let (rows, windows) = runtime.block_on(kept(&server))?;
    let lost = (asked.rows != rows) || (asked.windows != windows);
    println!(
        "\n{} clients, {} s, a request every {} ms each: {} requests, {} errors; p50 {:.1}, p99 {:.1}, max {:.0} ms",
        arguments.clients,
        arguments.seconds,
        arguments.every_ms,
        asked.times.count(),
        asked.errors,
        asked.times.quantile(0.5),
        asked.times.quantile(0.99),
        asked.times.quantile(1.0)
    );
    println!(
        "after kill -9 and a new start: {rows} of {} acknowledged rows, {windows} of {} windows",
        asked.rows, asked.windows
    );
    Ok(if asked.errors == 0 && !lost { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fills the history tables of a server that does not run yet.
async fn fill(server: &Server, rows: usize) -> Result<()> {
    let session = Session::open(Db::open(server.data())?, Device::cpu()).await?;
    // Ids of version 7 of the times of their rows; the end tells rows of the same millisecond apart.
    let step_us = 400 * 86_400_000_000 / rows.max(1);
    let us = format!("({} - ({rows} - i) * {step_us})", session.db().system().clock().now_us());
    let at = format!("CAST(to_timestamp_micros({us}) AS TIMESTAMPTZ)");
    let hex = format!("lpad(to_hex({us} / 1000), 12, '0')");
    let id = format!("substr({hex}, 1, 8) || '-' || substr({hex}, 9, 4) || '-7000-8000-' || lpad(to_hex(i), 12, '0')");
    let service = "'service-' || CAST(i % 50 AS TEXT)";
    let open = "CASE WHEN i % 10000 = 0 THEN NULL ELSE at + INTERVAL '3 minutes' END";
    let inserts = [
        format!(
            "healing_incidents (id, detected_at, incident_type, severity, symptoms, resolved_at, resolution_time_seconds, success) \
             SELECT {id}, at, 'latency', CASE i % 4 WHEN 0 THEN 'low' WHEN 1 THEN 'medium' WHEN 2 THEN 'high' ELSE 'critical' END, \
             '{{\"service\": \"' || {service} || '\"}}', {open}, CAST(i % 300 AS INTEGER), i % 20 <> 0"
        ),
        format!(
            "threat_events (id, detected_at, threat_type, severity, indicators, confidence_score, resolved_at) \
             SELECT {id}, at, 'scan', 'high', '{{\"entity\": \"' || {service} || '\"}}', 0.9, {open}"
        ),
        format!(
            "scaling_events (id, timestamp, scaling_type, resource_type, predicted_demand, scaling_action) \
             SELECT {id}, at, 'horizontal', 'cpu', '{{\"q95\": 12}}', '{{\"service\": \"' || {service} || '\", \"from\": 3, \"to\": 4}}'"
        ),
        format!(
            "governance_adaptations (id, timestamp, policy_type, old_policy, new_policy, adaptation_reason) \
             SELECT {id}, at, 'healing', '{{\"actions_per_hour\": 9}}', '{{\"actions_per_hour\": 10}}', 'it earned it'"
        ),
    ];
    for insert in inserts {
        for from in (1..=rows).step_by(CHUNK) {
            let to = (from + CHUNK - 1).min(rows);
            let series = format!("SELECT i, {at} AS at FROM generate_series({from}, {to}) AS numbers(i)");
            session.query(&format!("INSERT INTO {insert} FROM ({series}) AS times")).await?;
        }
    }
    session.query("VACUUM").await?;
    session.db().close()?;
    Ok(())
}

async fn alone(server: &Server) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    for (path, to_reach) in READS {
        let mut times = Times::default();
        for _ in 0..ALONE {
            let began = now();
            let answer = http.get(server.url(path)).send().await?;
            ensure!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.bytes().await?;
            times.add(ms_since(began));
        }
        let quantile = |share| times.quantile(share);
        println!("{path:<44} {:>8.1} {:>8.1} {:>8.1} {to_reach:>10}", quantile(0.5), quantile(0.99), quantile(1.0));
    }
    Ok(())
}

/// What the clients saw and were promised.
#[derive(Default)]
struct Asked {
    times: Times,
    errors: u64,
    rows: u64,
    windows: u64,
}

async fn together(server: &Server, arguments: &Arguments) -> Result<Asked> {
    let stop = Arc::new(AtomicBool::new(false));
    let line_at = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..arguments.clients {
        let (stop, line_at, base) = (Arc::clone(&stop), Arc::clone(&line_at), server.url(""));
        let every = Duration::from_millis(arguments.every_ms);
        let offset = every.mul_f64(number as f64 / arguments.clients as f64);
        clients.spawn(async move {
            tokio::time::sleep(offset).await;
            client(number, &base, every, &stop, &line_at).await
        });
    }
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Asked::default();
    while let Some(asked) = clients.join_next().await {
        let asked = asked??;
        all.times.extend(&asked.times);
        all.errors += asked.errors;
        all.rows += asked.rows;
        all.windows += asked.windows;
    }
    Ok(all)
}

async fn client(number: usize, base: &str, every: Duration, stop: &AtomicBool, line_at: &AtomicU64) -> Result<Asked> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let mut asked = Asked::default();
    for turn in number.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = now();
        let (request, status, rows, windows) = match turn % 10 {
            0 | 1 => {
                let first = line_at.fetch_add(LINES, Ordering::Relaxed);
                let lines: Vec<String> =
                    (first..first + LINES).map(|at| format!("load,client={number} v={at} {at}000")).collect();
                (http.post(format!("{base}/write")).body(lines.join("\n")), 204, LINES, 0)
            }
            2 => {
                let body = r#"{"name": "load", "starts_at": "2040-01-01T00:00:00Z", "duration": "1h"}"#;
                let request = http
                    .post(format!("{base}/api/v4/maintenance-windows"))
                    .header("Content-Type", "application/json")
                    .header("Idempotency-Key", format!("{number}-{turn}"))
                    .body(body);
                (request, 201, 0, 1)
            }
            other => (http.get(format!("{base}{}", READS[other % READS.len()].0)), 200, 0, 0),
        };
        let answer = request.send().await;
        let is_good = match answer {
            Ok(answer) => answer.status().as_u16() == status && answer.bytes().await.is_ok(),
            Err(_) => false,
        };
        asked.times.add(ms_since(began));
        if is_good {
            asked.rows += rows;
            asked.windows += windows;
        } else {
            asked.errors += 1;
        }
        tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
    }
    Ok(asked)
}

/// The rows and windows that are there.
async fn kept(server: &Server) -> Result<(u64, u64)> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut counts = Vec::new();
    for table in ["load", "juno_maintenance_windows"] {
        let sql = format!(r#"{{"sql": "SELECT CAST(count(*) AS TEXT) AS n FROM {table}"}}"#);
        let asked = http.post(server.url("/api/v4/query")).header("Content-Type", "application/json").body(sql);
        let text = asked.send().await?.text().await?;
        let digits: String =
            text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        counts.push(digits.parse()?);
    }
    Ok((counts[0], counts[1]))
}
