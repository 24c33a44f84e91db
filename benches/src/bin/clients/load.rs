//! The clients themselves, what they saw, and what they were promised.
//!
//! **Invariant:** a row counts as acknowledged only when its request was answered with success.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use juno_benches::measured::{Times, ms_since, now, pause};
use juno_benches::rows;
use juno_tests::Server;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use super::{Arguments, HOSTS, STEP_US, TICKS};

const INSERT_ROWS: u64 = 100;
const POST_LINES: u64 = 1000;
const HOUR_TICKS: usize = 360;
const NEWEST: &str = "SELECT DISTINCT ON (host) host, time, usage FROM cpu ORDER BY host, time DESC";
const MEANS: &str = "SELECT date_bin(INTERVAL '1 hour', time) AS hour, host, avg(usage) FROM cpu \
                     WHERE time >= $1 AND time < $2 GROUP BY 1, 2 ORDER BY 1, 2";
const ONE_HOST: &str = "SELECT date_bin(INTERVAL '1 minute', time) AS minute, max(usage) FROM cpu \
                        WHERE host = $1 AND time >= $2 AND time < $3 GROUP BY minute ORDER BY minute";

/// What all clients saw.
#[derive(Default)]
pub(super) struct Load {
    pub(super) one_host: Times,
    pub(super) newest: Times,
    pub(super) means: Times,
    pub(super) inserts: Times,
    pub(super) posts: Times,
    /// Answers that said to come back later, which the client did.
    pub(super) told_to_wait: u64,
    pub(super) errors: Vec<String>,
    /// Writers and how many rows each was promised.
    writers: Vec<(String, u64)>,
}

/// Runs all clients until the time is up.
pub(super) async fn run(server: &Server, arguments: &Arguments) -> Result<Load> {
    let stop = Arc::new(AtomicBool::new(false));
    let pace = Pace { every: Duration::from_millis(arguments.every_ms), stop: Arc::clone(&stop) };
    let clients = arguments.readers + arguments.inserters + arguments.senders;
    // Clients do not all begin at once.
    let offset = |client: usize| pace.every.mul_f64(client as f64 / clients as f64);
    let mut all = JoinSet::new();
    let url = server.url("/write?precision=us");
    for client in 0..clients {
        let (pace, offset) = (pace.clone(), offset(client));
        if client < arguments.senders {
            let url = url.clone();
            all.spawn_blocking(move || send(client, &url, &pace, offset));
        } else {
            let connection = connect(server.pg_port()).await?;
            if client < arguments.senders + arguments.inserters {
                all.spawn(insert(client, connection, pace, offset));
            } else {
                all.spawn(read(client, Reader::new(connection).await?, pace, offset));
            }
        }
    }
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut load = Load::default();
    while let Some(seen) = all.join_next().await {
        load.add(seen.context("a client ended")?);
    }
    Ok(load)
}

/// A connection to the server.
pub(super) async fn connect(port: u16) -> Result<Client> {
    let settings = format!("host=127.0.0.1 port={port} user=juno dbname=juno");
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// When requests begin.
#[derive(Clone)]
struct Pace {
    every: Duration,
    stop: Arc<AtomicBool>,
}

impl Pace {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn left(&self, begun: Instant) -> Duration {
        self.every.saturating_sub(begun.elapsed())
    }
}

/// A client that reads.
pub(super) struct Reader {
    client: Client,
    one_host: Statement,
    means: Statement,
}

impl Reader {
    pub(super) async fn new(client: Client) -> Result<Reader> {
        let one_host = client.prepare(ONE_HOST).await?;
        let means = client.prepare(MEANS).await?;
        Ok(Reader { client, one_host, means })
    }

    /// An hour of one host, minute by minute.
    pub(super) async fn one_host(&self, number: u64) -> Result<()> {
        let host = number as usize * 37 % HOSTS;
        let first = number as usize * 101 % (TICKS / HOUR_TICKS) * HOUR_TICKS;
        let name = rows::host(host);
        let found = self.client.query(&self.one_host, &[&name, &at(first), &at(first + HOUR_TICKS)]).await?;
        ensure!(found.len() == 60, "{} minutes of an hour", found.len());
        let wanted = (first..first + 6).map(|tick| rows::value(host, tick, 0)).fold(f64::MIN, f64::max);
        let max: f64 = found[0].try_get(1)?;
        ensure!(max == wanted, "the maximum of a minute is {wanted}, not {max}");
        Ok(())
    }

    async fn newest(&self) -> Result<()> {
        let found = self.client.query(NEWEST, &[]).await?;
        ensure!(found.len() >= HOSTS, "{} of {HOSTS} hosts have a newest row", found.len());
        Ok(())
    }

    async fn means(&self) -> Result<()> {
        let found = self.client.query(&self.means, &[&at(0), &at(TICKS)]).await?;
        ensure!(found.len() == HOSTS * TICKS / HOUR_TICKS, "{} means", found.len());
        Ok(())
    }
}

/// The time of a tick.
fn at(tick: usize) -> SystemTime {
    let us = rows::START_US + tick as i64 * STEP_US;
    SystemTime::UNIX_EPOCH + Duration::from_micros(us.unsigned_abs())
}

async fn read(client: usize, reader: Reader, pace: Pace, offset: Duration) -> Load {
    let mut seen = Load::default();
    tokio::time::sleep(offset).await;
    let mut number = client as u64;
    while pace.goes_on() {
        let start = now();
        let (times, outcome) = match number % 10 {
            0..=6 => (&mut seen.one_host, reader.one_host(number).await),
            7..=8 => (&mut seen.newest, reader.newest().await),
            _ => (&mut seen.means, reader.means().await),
        };
        match outcome {
            Ok(()) => times.add(ms_since(start)),
            Err(error) => seen.errors.push(format!("a reader: {error:#}")),
        }
        number += 1;
        tokio::time::sleep(pace.left(start)).await;
    }
    seen
}

/// The time of a writer's row: after all rows that were there before.
fn time_us(row: u64) -> i64 {
    rows::START_US + TICKS as i64 * STEP_US + row as i64 * 1000
}

async fn insert(client: usize, connection: Client, pace: Pace, offset: Duration) -> Load {
    let mut seen = Load::default();
    let (writer, mut row) = (format!("inserter_{client}"), 0);
    tokio::time::sleep(offset).await;
    while pace.goes_on() {
        let value = |row: u64| format!("(to_timestamp_micros({}), '{writer}', {row}.25)", time_us(row));
        let values: Vec<String> = (row..row + INSERT_ROWS).map(value).collect();
        let sql = format!("INSERT INTO cpu (time, host, usage) VALUES {}", values.join(", "));
        let start = now();
        match connection.execute(sql.as_str(), &[]).await {
            Ok(_) => {
                seen.inserts.add(ms_since(start));
                row += INSERT_ROWS;
            }
            Err(error) => seen.errors.push(format!("an inserter: {error:#}: {:?}", error.as_db_error())),
        }
        tokio::time::sleep(pace.left(start)).await;
    }
    seen.writers.push((writer, row));
    seen
}

fn send(client: usize, url: &str, pace: &Pace, offset: Duration) -> Load {
    let mut seen = Load::default();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let (writer, mut row) = (format!("sender_{client}"), 0);
    pause(offset);
    while pace.goes_on() {
        let line = |row: u64| format!("cpu,host={writer} usage={row}.25 {}\n", time_us(row));
        let body: String = (row..row + POST_LINES).map(line).collect();
        let start = now();
        match agent.post(url).send(body).map(|answer| answer.status().as_u16()) {
            Ok(204) => {
                seen.posts.add(ms_since(start));
                row += POST_LINES;
            }
            Ok(429 | 503) => seen.told_to_wait += 1,
            Ok(status) => seen.errors.push(format!("a sender was answered {status}")),
            Err(error) => seen.errors.push(format!("a sender: {error}")),
        }
        pause(pace.left(start));
    }
    seen.writers.push((writer, row));
    seen
}

impl Load {
    fn add(&mut self, other: Load) {
        let pairs = [
            (&mut self.one_host, &other.one_host),
            (&mut self.newest, &other.newest),
            (&mut self.means, &other.means),
            (&mut self.inserts, &other.inserts),
            (&mut self.posts, &other.posts),
        ];
        pairs.into_iter().for_each(|(all, some)| all.extend(some));
        self.told_to_wait += other.told_to_wait;
        self.errors.extend(other.errors);
        self.writers.extend(other.writers);
    }

    /// Rows that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.writers.iter().map(|(_, rows)| rows).sum()
    }

    /// Acknowledged rows that are not there as they were written, or there more often.
    pub(super) fn lost(&self, server: &Server) -> Result<u64> {
        let sql = "SELECT host, count(*), sum(usage) FROM cpu WHERE host LIKE 'inserter%' OR host LIKE 'sender%' GROUP BY host";
        let text = server.psql(&["--csv", "--tuples-only", "--command", sql])?;
        let mut lost = 0;
        for (writer, rows) in &self.writers {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{writer},")));
            let found: Vec<f64> = line.unwrap_or("0,0").split(',').map(str::parse).collect::<Result<_, _>>()?;
            let rows_f = *rows as f64;
            let sum = rows_f * (rows_f - 1.0) / 2.0 + rows_f * 0.25;
            if found[0] != rows_f {
                lost += (found[0] - rows_f).abs() as u64;
            } else if found[1] != sum {
                lost += 1;
            }
        }
        Ok(lost)
    }
}
