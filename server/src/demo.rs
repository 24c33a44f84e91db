//! `juno demo`: a server on generated telemetry with incidents in it, live writes going on, and lines to try.
//!
//! **Invariant:** needs no network, no other program and no file; what it stores goes through the same session as a client's rows.

pub mod fleet;
mod history;
mod incident;
mod noise;
mod telemetry;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use juno_sql::{OperationSettings, Session};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{AccessArgs, DemoArgs};
use crate::reach::Reach;
use crate::serve::{Config, Doors, Server, Storage};
use incident::Incident;
use telemetry::{LIVE_TABLE, STEP_US, TABLE, Telemetry};

/// How often live rows are written.
const LIVE_STEP: Duration = Duration::from_secs(5);

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server did not start or stop.
    #[error(transparent)]
    Serve(#[from] crate::serve::Error),
    /// The demo's rows were not stored.
    #[error("the demo's rows cannot be stored: {0}")]
    Rows(#[from] juno_sql::Error),
    /// There is no place for the data.
    #[error("no temporary directory: {0}")]
    Directory(#[from] std::io::Error),
}

/// Starts the server, loads the telemetry where it is not there yet, prints what to try, and serves until a signal.
pub fn run(args: DemoArgs) -> Result<(), Error> {
    let temporary =
        if args.data.is_none() { Some(tempfile::Builder::new().prefix("juno-demo-").tempdir()?) } else { None };
    let data = args.data.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
    let (pg_addr, http_addr) = (args.listen.pg_addr, args.listen.http_addr);
    let storage = Storage { data, bucket: None };
    let (memory, device) = (args.machine.memory(), args.machine.device);
    let (access, admin_password) = (AccessArgs::default(), None);
    let program = std::env::current_exe()?.display().to_string();
    let fleet = Some(fleet::fleet(&[program], None)?);
    let server = Server::start(Config {
        storage,
        pg_addr,
        http_addr,
        device,
        memory,
        fleet,
        reach: Reach::default(),
        access,
        admin_password,
        operations: OperationSettings::default(),
        reload: None,
    })?;
    let doors = Arc::clone(server.doors());
    let now_us = doors.session.db().system().clock().now_us();
    let telemetry = Telemetry::until(now_us);
    let fresh = doors.session.db().catalog().table(TABLE).is_none();
    let rows = if fresh { doors.query.block_on(load(&doors.session.connect(), &telemetry))? } else { 0 };
    let incidents = if fresh { telemetry.incidents() } else { &[] };
    println!("{}", banner(&server, rows, incidents));
    let live = doors.query.spawn(write_live(Arc::clone(&doors), telemetry));
    server.wait_for_signal()?;
    live.abort();
    Ok(server.stop()?)
}

/// Stores the telemetry of four weeks and the operations history that goes with it; gives the rows of telemetry.
async fn load(session: &Session, telemetry: &Telemetry) -> Result<u64, juno_sql::Error> {
    let rows = session.ingest(telemetry.all()).await?;
    for statement in history::inserts(telemetry.now_us, telemetry.incidents()) {
        session.query(&statement).await?;
    }
    Ok(rows)
}

/// Every few seconds the values of this moment, and every five minutes the next regular row of each series.
async fn write_live(doors: Arc<Doors>, telemetry: Telemetry) {
    let session = doors.session.connect();
    let mut ticks = interval(LIVE_STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut regular_us = telemetry.end_us();
    loop {
        ticks.tick().await;
        let now_us = doors.session.db().system().clock().now_us();
        let mut incoming = vec![telemetry.at(now_us, LIVE_TABLE)];
        while regular_us + STEP_US <= now_us {
            incoming.push(telemetry.at(regular_us, TABLE));
            regular_us += STEP_US;
        }
        let rows: usize = incoming.iter().map(|incoming| incoming.rows.num_rows()).sum();
        match session.ingest(incoming).await {
            Ok(_) => doors.counters.ingested("demo", rows as u64, 0),
            Err(error) => tracing::warn!(%error, "live rows of the demo were not stored"),
        }
    }
}

fn banner(server: &Server, rows: u64, incidents: &[Incident]) -> String {
    let (pg, http) = (server.pg_addr(), server.http_addr());
    let psql = format!("psql -h {} -p {} -U juno juno", pg.ip(), pg.port());
    let mut out = format!("{}\n", server.addresses());
    if rows > 0 {
        write!(out, "\n{rows} rows in {TABLE}: 5 services in 3 regions, 28 days at 5 minutes. ").expect(WRITES);
    } else {
        write!(out, "\nThe directory has the telemetry of an earlier demo in {TABLE}. ").expect(WRITES);
    }
    writeln!(out, "Live rows go to {LIVE_TABLE} every {} s.", LIVE_STEP.as_secs()).expect(WRITES);
    if !incidents.is_empty() {
        out.push_str("\nPlanted incidents (UTC):\n");
        for incident in incidents {
            writeln!(out, "  {incident}").expect(WRITES);
        }
    }
    out.push_str("\nTry, in another terminal:\n");
    let step = |out: &mut String, what: &str, line: &str| write!(out, "\n# {what}\n{line}\n").expect(WRITES);
    step(&mut out, "look around: \\dt, \\d service_metrics", &psql);
    step(
        &mut out,
        "requests of each service in the next 24 hours, with intervals of 95 %",
        &format!(
            "{psql} -c \"SELECT * FROM forecast('{TABLE}', 'requests', by => 'service, region', horizon => '24 hours', level => 0.95) LIMIT 5\""
        ),
    );
    step(
        &mut out,
        "the spike of checkout, as the anomaly score sees it",
        &format!("{psql} -c \"{}\"", anomaly_sql(incidents)),
    );
    step(&mut out, "how the operations are", &format!("curl -s http://{http}/api/v4/operations/status"));
    step(
        &mut out,
        "five services that call each other run beside it: kill one, and see it healed within seconds",
        "pkill -KILL -f 'demo-service --name store'",
    );
    step(
        &mut out,
        "the incident, its diagnosis, what was done and its verification",
        &format!(
            "{psql} -x -c \"SELECT * FROM healing_incidents_list WHERE service = 'store' ORDER BY detected_at DESC LIMIT 1\""
        ),
    );
    step(
        &mut out,
        "incidents of the last week, newest first",
        &format!("curl -s 'http://{http}/api/v4/healing/incidents?from=now-7d&limit=2'"),
    );
    step(
        &mut out,
        "write a point of your own as line protocol, and read it back",
        &format!(
            "curl -si http://{http}/write --data-binary 'room,house=mine temperature=21.5,humidity=40i'\n{psql} -c 'SELECT * FROM room'"
        ),
    );
    step(
        &mut out,
        "SQL over HTTP",
        &format!(
            "curl -s http://{http}/api/v4/query -H 'Content-Type: application/json' -d '{{\"sql\": \"SELECT count(*), max(time) FROM {LIVE_TABLE}\"}}'"
        ),
    );
    out.push_str("\nCtrl-C ends it.");
    out
}

const WRITES: &str = "a String takes every write";

fn anomaly_sql(incidents: &[Incident]) -> String {
    let spike = incidents.first();
    let (service, region) = spike.map_or(("checkout", "eu-west"), |spike| (spike.service, spike.region));
    format!(
        "SELECT * FROM (SELECT time, service, latency_ms, anomaly_score(latency_ms) OVER (PARTITION BY service, region ORDER BY time) AS score \
         FROM {TABLE} WHERE service = '{service}' AND region = '{region}') AS scored WHERE time > now() - INTERVAL '24 hours' ORDER BY score DESC LIMIT 8"
    )
}
