//! Attacks: guessed ways into hosts, guessed tokens at juno's own door, and a real log of attacks on sshd.
//!
//! The short form; `cargo run --release -p juno-benches --bin respond` measures more of them.
//!
//! **Invariant:** what juno calls contained is seen at the processes; a log that is missing is named loudly, and is a failure where
//! JUNO_REQUIRE_SHARED is set.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use juno_tests::attack::{Guarded, time_ago};

/// A log of sshd with attacks from 23 addresses.
const LOG: &str = "../../../shared/data/threat/OpenSSH_2k.log_structured.csv";
/// Makes a missing log a failure.
const DEMAND: &str = "JUNO_REQUIRE_SHARED";
/// Of them so many guess often enough to be told.
const TOLD_MIN: usize = 8;

fn main() -> Result<ExitCode> {
    if let Some(code) = juno_tests::as_juno() {
        return Ok(code);
    }
    let guarded = Guarded::start(2)?;
    for round in 0..2 {
        println!("contained after {:.2} s", guarded.break_in(round)?);
    }
    own_door(&guarded)?;
    real_log(&guarded)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits until a threat of this type is told about so many entities.
fn told(guarded: &Guarded, threat_type: &str, entities: usize) -> Result<Vec<String>> {
    for _ in 0..120 {
        let told = guarded.told(threat_type)?;
        if told.len() >= entities {
            return Ok(told);
        }
        guarded.pause();
    }
    guarded.told(threat_type)
}

/// Guesses at juno's own door are told; this machine's own address is never blocked, so that who belongs in gets in.
fn own_door(guarded: &Guarded) -> Result<()> {
    guarded.guess_tokens(40)?;
    for _ in 0..120 {
        if let Some(threat) = guarded.threats("127.0.0.1")?.first() {
            ensure!(threat["threat_type"] == "brute_force", "{threat}");
            println!("guessed tokens are told");
            return Ok(());
        }
        guarded.pause();
    }
    anyhow::bail!("40 guessed tokens are not told")
}

/// The log as if it had ended now.
fn real_log(guarded: &Guarded) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LOG);
    let Ok(text) = std::fs::read_to_string(&path) else { return skip(&path) };
    let before = told(guarded, "brute_force", 0)?.len();
    let (log, sources) = replayed(&text)?;
    guarded.sshd(log)?;
    let told = told(guarded, "brute_force", before + TOLD_MIN)?.len() - before;
    println!("real log: {told} sources told of {sources} that failed more than once");
    ensure!(told >= TOLD_MIN, "{told} sources of the real log were told");
    Ok(())
}

/// Says loudly that the log is not there; a failure where that is demanded.
fn skip(path: &Path) -> Result<()> {
    let missing = format!("the log of real attacks is not at {}, so it was not replayed", path.display());
    ensure!(std::env::var_os(DEMAND).is_none(), "{DEMAND} is set, and {missing}");
    eprintln!("SKIPPED: {missing} ({DEMAND}=1 makes this a failure)");
    Ok(())
}

/// Lines of syslog that end now, and how many addresses failed more than once.
fn replayed(text: &str) -> Result<(String, usize)> {
    let mut failures = std::collections::BTreeMap::<String, usize>::new();
    let mut lines = Vec::new();
    for line in text.lines().skip(1) {
        let mut cells = line.splitn(7, ',');
        let (time, content) = (cells.nth(3).context("a time")?.to_owned(), cells.nth(2).context("a content")?);
        // The last two cells are the template's: what stands before them is the message.
        let content = content.trim_start_matches('"');
        let end = content.find(",E").unwrap_or(content.len());
        let content = content[..end].trim_end_matches('"');
        if content.starts_with("Failed password") {
            let source = content.split(" from ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            *failures.entry(source.to_owned()).or_default() += 1;
        }
        lines.push((seconds(&time)?, content.to_owned()));
    }
    let last = lines.iter().map(|(at, _)| *at).max().context("a line")?;
    let text = lines.iter().map(|(at, content)| {
        let time = time_ago(last - at);
        format!("{time} lab sshd[7]: {content}\n")
    });
    Ok((text.collect(), failures.values().filter(|count| **count > 1).count()))
}

/// Seconds of the day.
fn seconds(time: &str) -> Result<i64> {
    let parts: Vec<i64> = time.split(':').map(str::parse).collect::<Result<_, _>>()?;
    Ok(parts.iter().fold(0, |sum, part| 60 * sum + part))
}
