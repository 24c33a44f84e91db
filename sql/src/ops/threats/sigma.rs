//! Sigma rules: what others know of suspicious events (<https://sigmahq.io>), as files of YAML.
//!
//! **Invariant:** a file is taken whole or refused with the place that cannot be read; one that is refused, or cannot be read, leaves
//! what it was before. All rules together can be run, or nothing changes.

pub(crate) mod event;
pub(crate) mod judge;

mod document;

use std::collections::BTreeSet;

use parking_lot::Mutex;
use serde_json::{Map, Value};

use self::document::{Document, read, techniques};
use self::judge::Judge;
use crate::session::{Session, blocking};
use crate::{Error, Result};

/// Rules of all files.
const RULES_MAX: usize = 20_000;
/// Rows that are written at a time.
const ROWS_MAX: usize = 500;

/// A file of rules.
#[derive(Debug, Clone)]
pub struct RuleFile {
    /// Its path below the directory of rules.
    pub name: String,
    /// What is in it, or why it cannot be read.
    pub text: std::result::Result<String, String>,
}

/// What became of a file of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesRead {
    /// Its name.
    pub name: String,
    /// How many rules it has, or why it was refused.
    pub rules: std::result::Result<usize, String>,
}

/// Puts these files in the place of those before; files that are not among them are forgotten.
///
/// # Errors
/// [`Error::InvalidText`] where the rules cannot be run together; then all stays as it was.
pub async fn load_rules(own: &Session, files: &[RuleFile]) -> Result<Vec<RulesRead>> {
    let mut told = Vec::with_capacity(files.len());
    let mut new: Vec<(&str, Vec<Document>)> = Vec::new();
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let found = file.text.as_ref().map_err(Clone::clone).and_then(|text| read(text));
        told.push(RulesRead { name: file.name.clone(), rules: found.as_ref().map(Vec::len).map_err(Clone::clone) });
        match found {
            Ok(documents) => new.push((file.name.as_str(), documents)),
            Err(_) => drop(kept.insert(&file.name)),
        }
    }
    let before =
        own.objects("SELECT source_file, yaml FROM juno_sigma_rules ORDER BY source_file, position", &[]).await?;
    let text = |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let stay = before.iter().filter(|row| kept.contains(row["source_file"].as_str().unwrap_or_default()));
    let mut all: Vec<String> = stay.map(|row| text(row, "yaml")).collect();
    all.extend(new.iter().flat_map(|(_, documents)| documents).map(|document| document.yaml.clone()));
    if all.len() > RULES_MAX {
        return Err(Error::InvalidText(format!("Sigma: {} rules are more than {RULES_MAX}", all.len())));
    }
    let tried = blocking(move || Ok(Judge::of(all.iter().map(String::as_str)).map(drop))).await?;
    tried.map_err(|what| Error::InvalidText(format!("Sigma: the rules cannot be run together: {what}")))?;
    let gone: BTreeSet<String> = before.iter().map(|row| text(row, "source_file")).collect();
    let gone = gone.into_iter().filter(|name| !kept.contains(name.as_str()));
    own.atomically(replace(own, gone.collect(), &new)).await?;
    Ok(told)
}

async fn replace(own: &Session, gone: Vec<String>, new: &[(&str, Vec<Document>)]) -> Result<()> {
    for file in gone {
        own.changed_rows("DELETE FROM juno_sigma_rules WHERE source_file = $1", &[file.into()]).await?;
    }
    let rows: Vec<(&str, usize, &Document)> = new
        .iter()
        .flat_map(|(file, documents)| {
            documents.iter().enumerate().map(|(position, document)| (*file, position, document))
        })
        .collect();
    let now = own.now();
    for some in rows.chunks(ROWS_MAX) {
        let mut values: Vec<Value> = vec![now.clone().into()];
        let mut tuples = Vec::with_capacity(some.len());
        for (file, position, document) in some {
            let first = values.len() + 1;
            let each: Vec<String> = (first..first + 10).map(|number| format!("${number}")).collect();
            tuples.push(format!("({}, $1)", each.join(", ")));
            values.extend([
                (*file).into(),
                (*position).into(),
                document.id.as_str().into(),
                document.kind.into(),
                document.title.as_str().into(),
                document.level.into(),
                document.status.into(),
                document.tags.clone().into(),
                techniques(&document.tags).into(),
                document.yaml.as_str().into(),
            ]);
        }
        let insert = format!(
            "INSERT INTO juno_sigma_rules (source_file, position, id, kind, title, level, status, tags, techniques, yaml, loaded_at) \
             VALUES {}",
            tuples.join(", ")
        );
        own.changed_rows(&insert, &values).await?;
    }
    Ok(())
}

/// Which rules there are: it is another where they were loaded anew.
pub(crate) async fn edition(own: &Session) -> Result<Option<String>> {
    let row = own.objects("SELECT count(*) AS n, max(loaded_at) AS at FROM juno_sigma_rules", &[]).await?.pop();
    Ok(row.filter(|row| row["n"] != 0).map(|row| format!("{} of {}", row["n"], row["at"])))
}

/// Compiled rules that nobody uses at present.
pub(crate) type AtRest = Mutex<Option<Rules>>;

/// All rules of an edition, compiled, with nothing counted.
pub(crate) struct Rules {
    edition: String,
    pub(crate) judge: Judge,
}

impl Rules {
    /// Lets the next who needs them have them.
    pub(crate) fn give_back(mut self, own: &Session) {
        self.judge.forget();
        *own.operations().rules.lock() = Some(self);
    }
}

/// All rules, for who has some events to judge and gives them back then; None where there are none. They are compiled where they
/// were loaded anew, or another has them.
pub(crate) async fn borrow(own: &Session) -> Result<Option<Rules>> {
    let Some(edition) = edition(own).await? else { return Ok(None) };
    let at_rest = own.operations().rules.lock().take();
    match at_rest.filter(|rules| rules.edition == edition) {
        Some(rules) => Ok(Some(rules)),
        None => Ok(Some(Rules { judge: judge(own).await?, edition })),
    }
}

/// All rules, compiled.
pub(crate) async fn judge(own: &Session) -> Result<Judge> {
    let rows = own.objects("SELECT yaml FROM juno_sigma_rules ORDER BY source_file, position", &[]).await?;
    let compiled = blocking(move || Ok(Judge::of(rows.iter().filter_map(|row| row["yaml"].as_str())))).await?;
    compiled.map_err(|what| Error::Corrupt(format!("the Sigma rules in juno_sigma_rules cannot be run: {what}")))
}

#[cfg(test)]
mod tests;
