//! Feeds of indicators: each file of `JUNO_FEEDS_DIR` is one, and each address of `JUNO_FEEDS_URLS`.
//!
//! **Invariant:** a feed is loaded when it is another than before, and not when THREAT_INTELLIGENCE_FEEDS is off.

use std::collections::BTreeMap;
use std::path::Path;

use juno_sql::{OperationSettings, Session, keep_feeds, load_feed};

use super::download::{Downloads, Fetched};
use super::{Files, stamp, text};

/// The longest feed, in bytes.
pub(super) const FEED_BYTES_MAX: usize = 64 << 20;
/// The endings of feeds.
const ENDINGS: [&str; 4] = ["csv", "txt", "json", "stix"];

/// What was loaded.
#[derive(Default)]
pub(super) struct Feeds {
    /// None where they have not been looked for.
    files: Option<Files>,
    downloads: Downloads,
}

impl Feeds {
    /// Loads the files that changed, and forgets the feeds that are gone.
    pub(super) async fn load_files(&mut self, session: &Session, settings: &OperationSettings) {
        if !settings.threat_feeds {
            *self = Self::default();
            return;
        }
        let is_first = self.files.is_none();
        if is_first && settings.feeds_dir.is_none() && settings.feeds_urls.is_empty() {
            tracing::warn!(
                "THREAT_INTELLIGENCE_FEEDS is on, and neither JUNO_FEEDS_DIR nor JUNO_FEEDS_URLS is set: there are no indicators"
            );
        }
        let files = match settings.feeds_dir.as_deref().map(files).transpose() {
            Ok(files) => files.unwrap_or_default(),
            Err(error) => {
                let dir = settings.feeds_dir.as_deref().unwrap_or(Path::new("")).display();
                tracing::warn!(%dir, %error, "the feeds cannot be read: there are no new indicators");
                return;
            }
        };
        if let Some(dir) = &settings.feeds_dir {
            if is_first && files.is_empty() {
                tracing::warn!(dir = %dir.display(), "there is no feed: files that end in {} are", ENDINGS.join(", "));
            }
            let before = self.files.take().unwrap_or_default();
            for name in files.iter().filter(|(name, stamp)| before.get(*name) != Some(*stamp)).map(|(name, _)| name) {
                load(session, name, text(&dir.join(name), FEED_BYTES_MAX as u64).map_err(|error| error.to_string()))
                    .await;
            }
        }
        let urls = named(&settings.feeds_urls);
        let names: Vec<String> = files.keys().chain(urls.keys()).cloned().collect();
        if let Err(error) = keep_feeds(session, &names).await {
            tracing::warn!(%error, "feeds that are gone cannot be forgotten");
        }
        self.files = Some(files);
    }

    /// Loads what other machines have anew.
    pub(super) async fn load_urls(&mut self, session: &Session, settings: &OperationSettings) {
        if !settings.threat_feeds {
            return;
        }
        for (name, url) in named(&settings.feeds_urls) {
            match self.downloads.fetch(&url).await {
                Ok(Fetched::Unchanged) => tracing::debug!(feed = name, "a feed has not changed"),
                Ok(Fetched::Text { text, etag }) => {
                    if load(session, &name, Ok(text)).await {
                        self.downloads.keep(url, etag);
                    }
                }
                Err(error) => drop(load(session, &name, Err(error)).await),
            }
        }
    }
}

/// Loads one feed; whether it could be.
async fn load(session: &Session, feed: &str, text: Result<String, String>) -> bool {
    let loaded = match text {
        Ok(text) => load_feed(session, feed, &text).await.map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match &loaded {
        Ok(indicators) => tracing::info!(feed, indicators, "a feed was loaded"),
        Err(error) => tracing::warn!(feed, "a feed cannot be used: {error}"),
    }
    loaded.is_ok()
}

/// The addresses by the names of their feeds: without what may be secret in them. Of two with one name the first is used.
fn named(urls: &[String]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for url in urls {
        let bare = url.split(['?', '#']).next().unwrap_or_default();
        let name = match (bare.split_once("://"), bare.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
            _ => bare.to_owned(),
        };
        if let Some(other) = all.insert(name.clone(), url.clone()) {
            tracing::warn!(feed = name, "two feeds differ only behind their path: the first is read");
            all.insert(name, other);
        }
    }
    all
}

/// The files of a directory that are feeds.
fn files(dir: &Path) -> std::io::Result<Files> {
    let mut all = Files::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        if path.is_file() && ending.is_some_and(|ending| ENDINGS.iter().any(|own| ending == *own)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.insert(name, stamp(&path)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use juno_sql::engine::Db;
    use juno_sql::kernels::Device;

    use super::*;

    #[test]
    fn a_feed_from_afar_is_named_without_what_may_be_secret() {
        let urls =
            ["https://ada:pw@feeds.example/list.csv?key=s", "http://feeds.example/a#x", "http://feeds.example/a?other"];
        let found = named(&urls.map(str::to_owned));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["http://feeds.example/a", "https://feeds.example/list.csv"]);
        assert_eq!(found["http://feeds.example/a"], urls[1]);
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn feeds_are_read_where_they_are_wanted_and_again_where_they_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let db = Db::open(path("data")).expect("a database");
        let session = Session::open(db, Device::cpu()).await.expect("migrations");
        std::fs::create_dir(path("feeds")).expect("a directory");
        let write = |text: &str| std::fs::write(path("feeds/a.csv"), text).expect("a file");
        let known = async || {
            let rows = session.objects("SELECT value FROM juno_indicators ORDER BY value", &[]).await.expect("rows");
            rows.iter().filter_map(|row| row["value"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        write("203.0.113.7\n");
        let off = OperationSettings { feeds_dir: Some(path("feeds")), ..OperationSettings::default() };
        let on = OperationSettings { threat_feeds: true, ..off.clone() };
        let mut feeds = Feeds::default();
        feeds.load_files(&session, &off).await;
        assert!(known().await.is_empty(), "THREAT_INTELLIGENCE_FEEDS is off");
        feeds.load_files(&session, &on).await;
        assert_eq!(known().await, ["203.0.113.7"]);
        write("203.0.113.7\n203.0.113.8\n");
        feeds.load_files(&session, &on).await;
        assert_eq!(known().await.len(), 2);
        write("this is no indicator\n");
        feeds.load_files(&session, &on).await;
        assert_eq!(known().await.len(), 2, "what cannot be used leaves what was there");
        std::fs::remove_file(path("feeds/a.csv")).expect("a file");
        feeds.load_files(&session, &on).await;
        assert!(known().await.is_empty(), "a feed that is gone says nothing any more");
        write("203.0.113.9\n");
        std::fs::rename(path("feeds"), path("elsewhere")).expect("a directory");
        feeds.load_files(&session, &on).await;
        assert!(known().await.is_empty(), "a directory that is not there changes nothing");
    }
}
