//! Feeds of indicators out of `JUNO_FEEDS_DIR`: each file is one.
//!
//! **Invariant:** a file that cannot be read or understood is warned of and keeps nothing from starting; what it held before stays.

use std::io::Read;
use std::path::{Path, PathBuf};

use juno_sql::{OperationSettings, Session, keep_feeds, load_feed};

/// The longest feed, in bytes.
const FEED_BYTES_MAX: u64 = 64 << 20;
/// The endings of feeds.
const ENDINGS: [&str; 4] = ["csv", "txt", "json", "stix"];

/// Loads every feed, where THREAT_INTELLIGENCE_FEEDS is on.
pub(crate) async fn load(session: &Session, settings: &OperationSettings) {
    if !settings.threat_feeds {
        return;
    }
    let Some(dir) = &settings.feeds_dir else {
        tracing::warn!("THREAT_INTELLIGENCE_FEEDS is on and JUNO_FEEDS_DIR is not set: there are no indicators");
        return;
    };
    let files = match feeds(dir) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "the feeds cannot be read: there are no new indicators");
            return;
        }
    };
    if files.is_empty() {
        tracing::warn!(dir = %dir.display(), "there is no feed: files that end in {} are", ENDINGS.join(", "));
    }
    let mut names = Vec::with_capacity(files.len());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let loaded = match text(&file) {
            Ok(text) => load_feed(session, &name, &text).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(indicators) => tracing::info!(feed = name, indicators, "a feed was loaded"),
            Err(error) => tracing::warn!(feed = name, "a feed cannot be used: {error}"),
        }
        names.push(name);
    }
    if let Err(error) = keep_feeds(session, &names).await {
        tracing::warn!(%error, "feeds that are gone cannot be forgotten");
    }
}

/// The files of a directory that are feeds, by name.
fn feeds(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        if path.is_file() && ending.is_some_and(|ending| ENDINGS.iter().any(|own| ending == *own)) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(FEED_BYTES_MAX + 1).read_to_string(&mut text)?;
    match read as u64 > FEED_BYTES_MAX {
        true => Err(std::io::Error::other(format!("it is longer than {FEED_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}
