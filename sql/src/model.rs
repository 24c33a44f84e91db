//! Models in memory: every stored version by name, decoded when it is first used.
//!
//! **Invariant:** what is here is what the table `juno_models` holds: [`Session`](crate::Session) puts it here when the
//! database is opened and after every change. Functions read it and never the table.

pub(crate) mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use juno_kernels::threat_model::ThreatModel;
use parking_lot::RwLock;

use crate::{Error, Result};

/// The kind of the models of this room.
pub(crate) const THREAT: &str = "threat";
/// What stands for the newest version, of one name or of all.
const LATEST: &str = "latest";

/// One stored version.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) version: i32,
    pub(crate) created_us: i64,
    pub(crate) promoted_us: Option<i64>,
    pub(crate) checksum: String,
    pub(crate) artefact: Vec<u8>,
    decoded: Arc<OnceLock<std::result::Result<Arc<ThreatModel>, String>>>,
}

/// All versions by name, each name's in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Models {
    known: RwLock<BTreeMap<String, Vec<Arc<Stored>>>>,
}

impl Stored {
    pub(crate) fn new(name: String, version: i32, created_us: i64, checksum: String, artefact: Vec<u8>) -> Self {
        Self { name, version, created_us, promoted_us: None, checksum, artefact, decoded: Arc::default() }
    }

    /// The model of the artefact.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the artefact is not what was stored.
    pub(crate) fn model(&self) -> Result<Arc<ThreatModel>> {
        let decode = || {
            let checksum = checksum(&self.artefact);
            if checksum != self.checksum && self.checksum != RESIDUE {
                return Err(format!("its checksum is {checksum} and should be {}", self.checksum));
            }
            ThreatModel::from_bytes(&self.artefact).map(Arc::new).map_err(|error| error.to_string())
        };
        self.decoded.get_or_init(decode).clone().map_err(|text| {
            let (name, version) = (&self.name, self.version);
            Error::Corrupt(format!(
                "model \"{name}\" version {version} cannot be read: {text}; train or import it anew"
            ))
        })
    }
}

/// What earlier versions wrote for every artefact: the CRC-32 of bytes that end in their own.
const RESIDUE: &str = "2144df1c";

/// The checksum of an artefact, as the table has it: of what stands before its own, which ends it.
pub(crate) fn checksum(artefact: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(&artefact[..artefact.len().saturating_sub(4)]))
}

impl Models {
    /// Puts these in the place of all; what was decoded stays so.
    pub(crate) fn replace(&self, all: Vec<Stored>) {
        let mut known = self.known.write();
        let mut next: BTreeMap<String, Vec<Arc<Stored>>> = BTreeMap::new();
        for mut stored in all {
            let before = known.get(&stored.name).and_then(|versions| {
                versions.iter().find(|old| old.version == stored.version && old.checksum == stored.checksum)
            });
            if let Some(old) = before {
                stored.decoded = Arc::clone(&old.decoded);
            }
            next.entry(stored.name.clone()).or_default().push(Arc::new(stored));
        }
        next.values_mut().for_each(|versions| versions.sort_by_key(|stored| stored.version));
        *known = next;
    }

    /// All versions of a name, ascending.
    pub(crate) fn versions(&self, name: &str) -> Vec<Arc<Stored>> {
        self.known.read().get(name).cloned().unwrap_or_default()
    }

    /// The version that a word names: `name` is its active version, `name@3` its third, `name@latest` its newest, and
    /// `latest` the model trained last.
    ///
    /// # Errors
    /// [`Error::UndefinedType`] where there is none.
    pub(crate) fn find(&self, word: &str) -> Result<Arc<Stored>> {
        let known = self.known.read();
        if word == LATEST && !known.contains_key(LATEST) {
            let newest = known.values().flatten().max_by_key(|stored| (stored.created_us, stored.version));
            return newest.cloned().ok_or_else(|| {
                Error::UndefinedType("there is no model yet: CALL train_threat_model(…) makes one".into())
            });
        }
        let (name, version) = word.split_once('@').map_or((word, None), |(name, version)| (name, Some(version)));
        let Some(versions) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let known = if names.is_empty() {
                "there is none yet".to_owned()
            } else {
                format!("there is {}", names.join(", "))
            };
            return Err(Error::UndefinedType(format!("model \"{name}\" does not exist; {known}")));
        };
        let found = match version {
            None => {
                versions.iter().filter(|stored| stored.promoted_us.is_some()).max_by_key(|stored| stored.promoted_us)
            }
            Some(LATEST) => versions.last(),
            Some(number) => versions.iter().find(|stored| stored.version.to_string() == number),
        };
        found.cloned().ok_or_else(|| {
            let text = match version {
                None => format!(
                    "model \"{name}\" has no active version: CALL promote_model('{name}', {})",
                    versions.last().map_or(1, |last| last.version)
                ),
                Some(version) => format!("model \"{name}\" has no version {version}"),
            };
            Error::UndefinedType(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, version: i32, promoted_us: Option<i64>) -> Stored {
        let mut stored = Stored::new(name.into(), version, i64::from(version), "00000000".into(), Vec::new());
        stored.promoted_us = promoted_us;
        stored
    }

    #[test]
    fn words_name_versions() {
        let models = Models::default();
        assert!(matches!(models.find("latest"), Err(Error::UndefinedType(_))));
        models.replace(vec![
            stored("a", 2, Some(5)),
            stored("a", 1, Some(9)),
            stored("a", 3, None),
            stored("b", 1, None),
        ]);
        let version = |word: &str| models.find(word).map(|stored| stored.version);
        assert_eq!(version("a").unwrap(), 1);
        assert_eq!((version("a@2").unwrap(), version("a@latest").unwrap(), version("latest").unwrap()), (2, 3, 3));
        for (word, told) in [("c", "there is a, b"), ("a@7", "no version 7"), ("b", "promote_model('b', 1)")] {
            assert!(version(word).unwrap_err().to_string().contains(told), "{word}");
        }
    }

    #[test]
    fn bytes_that_are_not_those_that_were_stored_are_told_of() {
        let mut one = stored("a", 1, None);
        assert!(matches!(one.model(), Err(Error::Corrupt(text)) if text.contains("JUNOTHRT")));
        one = Stored::new("a".into(), 1, 0, "12345678".into(), vec![1, 2]);
        assert!(matches!(one.model(), Err(Error::Corrupt(text)) if text.contains("should be 12345678")));
    }
}
