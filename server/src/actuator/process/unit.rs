//! One service as it runs.
//!
//! **Invariant:** its state is locked for moments only, never while something is waited for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use juno_sql::actuator::{Action, ActuatorError, Observation, Replica as Seen, Target};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use super::child::{LOG, Replica};
use super::procfs::State;
use super::record::Record;
use super::spec::Service;
use super::{ACTIONS, CONFIG, Watched};

/// How often it is looked whether something happened.
const LOOK: Duration = Duration::from_millis(25);
/// How long a killed process may take to vanish.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// The first wait between starts; it doubles with each start that follows.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait between starts.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// Starts longer ago than this are forgotten.
const BACK_OFF_MEMORY: Duration = Duration::from_secs(30);
/// So many files are measured; of larger directories that much is told.
const FILES_MAX: usize = 10_000;

/// One service.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) service: Service,
    dir: PathBuf,
    http: reqwest::Client,
    /// Held by the order that acts.
    pub(super) turn: tokio::sync::Mutex<()>,
    state: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    record: Record,
    /// By number; None where there is none.
    replicas: Vec<Option<Replica>>,
    starts: Vec<Instant>,
}

impl Unit {
    /// Reads what is remembered, and adopts what still runs.
    pub(super) fn open(service: Service, dir: PathBuf, http: reqwest::Client) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut record = Record::read(&dir)?.unwrap_or_else(|| {
            let mut record = Record { size: service.replicas, ..Record::default() };
            if let Some(config) = service.config.clone() {
                record.configure(config);
            }
            record
        });
        record.size = record.size.clamp(1, service.replicas_max);
        let mut replicas: Vec<Option<Replica>> = (0..service.replicas_max).map(|_| None).collect();
        for (index, identity) in std::mem::take(&mut record.running) {
            // What is beyond a fleet that has shrunk is ended by being dropped.
            let adopted = Replica::adopt(identity);
            if let (Some(place), Some(replica)) = (replicas.get_mut(index), adopted) {
                *place = Some(replica);
            }
        }
        let state = Mutex::new(Running { record, replicas, starts: Vec::new() });
        let unit = Self { service, dir, http, turn: tokio::sync::Mutex::default(), state };
        if !unit.dir.join(CONFIG).exists() {
            unit.write_config()?;
        }
        unit.save()?;
        Ok(unit)
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> ActuatorError {
        ActuatorError::Refused { target: self.service.name.clone(), reason: reason.into() }
    }

    pub(super) fn target(&self) -> Target {
        let Service { name, standby, replicas_max, disposable, is_protected, .. } = &self.service;
        let own = [
            standby.as_ref().map(|_| Action::Failover),
            (*replicas_max > 1).then_some(Action::Scale),
            disposable.as_ref().map(|_| Action::CleanDisk),
        ];
        let actions = ACTIONS.into_iter().chain(own.into_iter().flatten()).collect();
        Target { name: name.clone(), kind: "process".into(), is_protected: *is_protected, actions }
    }

    /// It as it can be watched.
    pub(super) fn watched(&self) -> Watched {
        let filled = |text: &Option<String>| Some(self.service.filled(text.as_ref()?, &self.dir, 0));
        let Service { name, calls, probe, metrics, .. } = &self.service;
        Watched {
            name: name.clone(),
            calls: calls.clone(),
            probe: filled(probe),
            metrics: filled(metrics).into_iter().collect(),
        }
    }

    /// What is remembered, as it is now.
    pub(super) fn record(&self) -> Record {
        self.state.lock().record.clone()
    }

    /// Changes what is remembered, on disk first.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Record)) -> Result<(), ActuatorError> {
        change(&mut self.state.lock().record);
        self.save().map_err(|error| self.refused(format!("its record cannot be written: {error}")))
    }

    fn save(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let running = state.replicas.iter().enumerate();
        let running = running.filter_map(|(index, replica)| Some((index, replica.as_ref()?.identity.clone())));
        state.record.running = running.collect();
        state.record.write(&self.dir)
    }

    /// Writes the configuration that was applied last.
    pub(super) fn write_config(&self) -> io::Result<()> {
        match self.record().config {
            Some(text) => crate::actuator::ledger::write_durably(&self.dir.join(CONFIG), text.as_bytes()),
            None => Ok(()),
        }
    }

    fn has_drifted(&self, record: &Record) -> bool {
        let text = fs::read_to_string(self.dir.join(CONFIG));
        record.config.as_ref().is_some_and(|config| text.map_or(true, |text| text != *config))
    }

    /// Whether a replica answers its health check; None where it has none.
    async fn is_healthy(&self, index: usize) -> Option<bool> {
        let url = self.service.filled(self.service.health.as_ref()?, &self.dir, index);
        Some(self.http.get(url).send().await.is_ok_and(|answer| answer.status().is_success()))
    }

    /// How it is. Health checks are asked at once, and cost their limit at most; the rest is as it is after them.
    pub(super) async fn observe(&self) -> Observation {
        let (_, before) = self.seen();
        let there = before.iter().filter(|replica| replica.state != "gone").map(|replica| replica.index);
        let asked = there.map(async |index| (index, self.is_healthy(index).await));
        let health: BTreeMap<usize, Option<bool>> = futures::future::join_all(asked).await.into_iter().collect();
        let mut observed = self.glance();
        for replica in &mut observed.replicas {
            let answer = health.get(&replica.index).copied().flatten().filter(|_| replica.state != "gone");
            replica.is_healthy = self.service.health.as_ref().map(|_| answer.unwrap_or(false));
        }
        observed
    }

    /// How it is without asking it.
    pub(super) fn glance(&self) -> Observation {
        let (record, replicas) = self.seen();
        Observation {
            wanted: if record.is_stopped { 0 } else { record.size },
            replicas,
            config_version: record.config.as_ref().map(|_| record.config_version),
            has_drifted: self.has_drifted(&record),
            has_previous: record.previous.is_some() && !record.is_rolled_back,
            has_standby: self.service.standby.is_some(),
            is_failed_over: record.is_failed_over,
            is_cordoned: record.is_cordoned,
            is_busy: self.turn.try_lock().is_err(),
            is_isolated: record.is_isolated,
            disk_bytes: Some(size_bytes(&self.dir)),
        }
    }

    /// What it should be, and its replicas as the system sees them.
    fn seen(&self) -> (Record, Vec<Seen>) {
        let mut state = self.state.lock();
        let size = if state.record.is_stopped { 0 } else { state.record.size };
        let places = state.replicas.iter_mut().enumerate();
        let seen = places.filter_map(|(index, replica)| {
            if replica.is_none() && index >= size {
                return None;
            }
            let (now, usage) =
                replica.as_mut().map_or((State::Gone, None), |replica| (replica.state(), replica.usage()));
            let word = match now {
                State::Running => "running",
                State::Halted => "halted",
                State::Gone => "gone",
            };
            let identity = replica.as_ref().map(|replica| &replica.identity).filter(|_| now != State::Gone);
            Some(Seen {
                index,
                pid: identity.map(|identity| identity.pid),
                state: word.into(),
                is_healthy: None,
                rss_bytes: usage.map(|usage| usage.rss_bytes),
                cpu_ms: usage.map(|usage| usage.cpu_ms),
                open_files: usage.map(|usage| usage.open_files),
                port: self.service.port_of(index),
                nice: usage.map(|usage| usage.nice),
                started: identity.map(|identity| format!("{}:{}", identity.pid, identity.started_ticks)),
            })
        });
        let seen = seen.collect();
        (state.record.clone(), seen)
    }

    /// Sends a signal to all replicas.
    fn signal(&self, signal: Signal) -> Result<(), ActuatorError> {
        let mut state = self.state.lock();
        let mut replicas = state.replicas.iter_mut().flatten();
        replicas.try_for_each(|replica| replica.signal(signal)).map_err(|error| self.refused(error.to_string()))
    }

    /// Stops all replicas where they are, or lets them go on, and waits until they do.
    pub(super) async fn halt(&self, halts: bool) -> Result<(), ActuatorError> {
        self.signal(if halts { Signal::STOP } else { Signal::CONT })?;
        let from = if halts { State::Running } else { State::Halted };
        let is_not_yet = |replica: &mut Replica| replica.state() == from;
        while self.state.lock().replicas.iter_mut().flatten().any(is_not_yet) {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Sets the priority of all replicas.
    pub(super) fn set_nice(&self, nice: i32) -> Result<(), ActuatorError> {
        let state = self.state.lock();
        let mut replicas = state.replicas.iter().flatten();
        replicas.try_for_each(|replica| replica.set_nice(nice)).map_err(|error| self.refused(error.to_string()))
    }

    /// Ends the replicas from number `from` on: in good order, or at once what does not obey.
    pub(super) async fn stop_from(&self, from: usize) -> Result<(), ActuatorError> {
        let grace = Duration::from_millis(self.service.stop_ms);
        let mut waits_for = {
            let mut state = self.state.lock();
            let mut obeys = false;
            for replica in state.replicas.iter_mut().skip(from).flatten() {
                // What is halted hears nothing but this.
                let signal = if replica.state() == State::Halted { Signal::KILL } else { Signal::TERM };
                obeys |= signal == Signal::TERM;
                replica.signal(signal).map_err(|error| self.refused(error.to_string()))?;
            }
            if obeys { grace } else { KILL_LIMIT }
        };
        for is_last in [false, true] {
            if timeout(waits_for, self.gone_from(from)).await.is_ok() {
                self.state.lock().replicas.iter_mut().skip(from).for_each(|replica| *replica = None);
                return self.remember(|_| {});
            }
            if !is_last {
                let mut state = self.state.lock();
                for replica in state.replicas.iter_mut().skip(from).flatten() {
                    replica.signal(Signal::KILL).map_err(|error| self.refused(error.to_string()))?;
                }
                waits_for = KILL_LIMIT;
            }
        }
        Err(self.refused("it does not end even when it is killed: look at the machine"))
    }

    async fn gone_from(&self, from: usize) {
        let is_there = |replica: &mut Replica| replica.state() != State::Gone;
        while self.state.lock().replicas.iter_mut().skip(from).flatten().any(is_there) {
            sleep(LOOK).await;
        }
    }

    /// Starts the replicas that should run and do not, and waits until all are well.
    pub(super) async fn start_missing(&self) -> Result<(), ActuatorError> {
        let record = self.record();
        if record.is_stopped || record.is_cordoned {
            return Ok(());
        }
        let missing: Vec<usize> = {
            let mut state = self.state.lock();
            let places = state.replicas.iter_mut().enumerate().take(record.size);
            places
                .filter_map(|(index, replica)| {
                    replica.as_mut().is_none_or(|replica| replica.state() == State::Gone).then_some(index)
                })
                .collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        sleep(self.back_off()).await;
        let program = match &self.service.standby {
            Some(standby) if record.is_failed_over => standby,
            _ => &self.service.program,
        };
        for index in &missing {
            let replica = Replica::spawn(&self.service, program, &self.dir, *index)
                .map_err(|error| self.refused(format!("\"{}\" cannot be started: {error}", program.argv[0])))?;
            self.state.lock().replicas[*index] = Some(replica);
        }
        self.remember(|_| {})?;
        let limit = Duration::from_millis(self.service.start_ms);
        let ready = timeout(limit, futures::future::try_join_all(missing.iter().map(|index| self.ready(*index)))).await;
        ready
            .map_err(|_| self.refused(format!("it runs, but is not well after {} ms", self.service.start_ms)))?
            .map(drop)
    }

    /// Waits until a replica is well.
    async fn ready(&self, index: usize) -> Result<(), ActuatorError> {
        loop {
            let ending = self.state.lock().replicas[index]
                .as_mut()
                .and_then(|replica| (replica.state() == State::Gone).then(|| replica.ending()));
            if let Some(ending) = ending {
                let said = last_line(&self.dir.join(LOG)).map(|line| format!("; it said: {line}")).unwrap_or_default();
                return Err(self.refused(format!("it ends at its start: {ending}{said}")));
            }
            if self.is_healthy(index).await != Some(false) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// How long a start has to wait for those before.
    fn back_off(&self) -> Duration {
        let mut state = self.state.lock();
        state.starts.retain(|start| start.elapsed() < BACK_OFF_MEMORY);
        let times = u32::try_from(state.starts.len()).unwrap_or(u32::MAX);
        state.starts.push(Instant::now());
        match times {
            0 => Duration::ZERO,
            _ => BACK_OFF_MAX.min(BACK_OFF.saturating_mul(1 << (times - 1).min(10))),
        }
    }

    /// Removes the disposable files.
    pub(super) async fn clean(&self) -> Result<(), ActuatorError> {
        let folder = self.service.disposable.as_ref().ok_or_else(|| self.refused("it has no disposable files"))?;
        let folder = self.dir.join(folder);
        let cleaned = tokio::task::spawn_blocking(move || {
            let mut files = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                files => files?,
            };
            files.try_for_each(|entry| {
                let entry = entry?;
                // A link is removed, not followed.
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())
                } else {
                    fs::remove_file(entry.path())
                }
            })
        });
        let cleaned = cleaned.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        cleaned.map_err(|error| self.refused(format!("its disposable files cannot be removed: {error}")))
    }
}

fn last_line(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.chars().take(200).collect())
}

/// Bytes of the files in a directory and below.
fn size_bytes(dir: &Path) -> u64 {
    let (mut sum, mut files, mut waiting) = (0, 0, vec![dir.to_owned()]);
    while let Some(entries) = waiting.pop().map(fs::read_dir) {
        for entry in entries.into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => waiting.push(entry.path()),
                Ok(metadata) => sum += metadata.len(),
                Err(_) => {}
            }
            files += 1;
            if files > FILES_MAX {
                return sum;
            }
        }
    }
    sum
}
