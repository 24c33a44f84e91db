//! What others know of attackers, from files and from afar: feeds of indicators and Sigma rules, loaded when juno starts, by a timer where
//! something changed, and anew when settings are read again.
//!
//! **Invariant:** what cannot be read or understood is warned of and keeps nothing from starting; what it held before stays.

mod download;
mod feeds;
mod rules;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use juno_sql::Session;
use tokio::sync::Notify;

use self::feeds::Feeds;
use self::rules::Rules;

/// The size of a file and when it was written: another where it was changed.
type Stamp = (u64, Option<SystemTime>);
/// The files of a directory, by their path below it.
type Files = BTreeMap<String, Stamp>;

/// All of it, and what was loaded when.
#[derive(Default)]
pub(crate) struct Intelligence {
    feeds: Feeds,
    rules: Rules,
}

impl Intelligence {
    /// Loads what lies on this machine.
    pub(crate) async fn load(&mut self, session: &Session) {
        let settings = session.operation_settings();
        self.feeds.load_files(session, &settings).await;
        self.rules.load(session, &settings).await;
    }

    /// Loads what changes, for ever; all of it anew when it is woken.
    pub(crate) async fn keep(mut self, session: Session, wake: Arc<Notify>) {
        loop {
            self.load(&session).await;
            let settings = session.operation_settings();
            self.feeds.load_urls(&session, &settings).await;
            let woken = tokio::time::timeout(Duration::from_secs(settings.feeds_interval_s), wake.notified()).await;
            if woken.is_ok() {
                self = Self::default();
            }
        }
    }
}

/// The stamp of a file.
fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// The text of a file of bounded length.
fn text(file: &Path, bytes_max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(bytes_max + 1).read_to_string(&mut text)?;
    match read as u64 > bytes_max {
        true => Err(std::io::Error::other(format!("it is longer than {bytes_max} bytes"))),
        false => Ok(text),
    }
}
