//! The machine that a measurement ran on, and what a process used of it.
//!
//! **Invariant:** reads /proc; where there is none, it says so instead of guessing.

use std::fs::read_to_string;
use std::path::Path;

use anyhow::{Context, Result};

/// Clock ticks per second in /proc: fixed by Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// One line about processor and cores.
pub fn describe() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

/// Seconds of processor time of a running process, over all its threads.
///
/// # Errors
/// Where /proc has no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(ticks(&format!("/proc/{pid}/stat"), 11)? / TICKS_PER_SECOND)
}

/// Seconds of processor time of all threads of this process that are alive, to the nanosecond.
///
/// # Errors
/// Where there is no /proc, or a kernel without scheduler statistics.
pub fn threads_cpu_seconds() -> Result<f64> {
    let mut total_ns = 0;
    for thread in std::fs::read_dir("/proc/self/task").context("no /proc on this machine")? {
        // A thread may end meanwhile.
        let Ok(text) = read_to_string(thread?.path().join("schedstat")) else { continue };
        total_ns += text.split_whitespace().next().context("schedstat has three numbers")?.parse::<u64>()?;
    }
    Ok(total_ns as f64 / 1e9)
}

/// Seconds of processor time of all children that this process has waited for.
///
/// # Errors
/// Where there is no /proc.
pub fn children_cpu_seconds() -> Result<f64> {
    Ok(ticks("/proc/self/stat", 13)? / TICKS_PER_SECOND)
}

/// Memory that a process holds, in MiB.
///
/// # Errors
/// Where /proc has no such process.
pub fn resident_mib(pid: u32) -> Result<f64> {
    status_mib(&pid.to_string(), "VmRSS:")
}

/// The most memory that a process ever held, in MiB.
///
/// # Errors
/// Where /proc has no such process.
pub fn peak_mib(pid: u32) -> Result<f64> {
    status_mib(&pid.to_string(), "VmHWM:")
}

/// Bytes that a process had written to the disk; files that were removed before they got there do not count.
///
/// # Errors
/// Where /proc has no such process.
pub fn written_bytes(pid: u32) -> Result<u64> {
    let io = read_to_string(format!("/proc/{pid}/io")).context("/proc counts no input and output")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("/proc lists no write_bytes")?;
    Ok(line.trim().parse()?)
}

fn status_mib(process: &str, name: &str) -> Result<f64> {
    let status = read_to_string(format!("/proc/{process}/status")).context("no /proc on this machine")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// Bytes of all files below a folder.
///
/// # Errors
/// Where a folder cannot be read.
pub fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { folder_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// Two neighbouring tick counts of a stat line, added; fields are counted after the command's closing bracket.
fn ticks(path: &str, first: usize) -> Result<f64> {
    let stat = read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    let (_, fields) = stat.rsplit_once(')').context("a stat line has a command in brackets")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    field(first).zip(field(first + 1)).map(|(user, system)| user + system).context("a stat line has tick counts")
}
