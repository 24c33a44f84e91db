//! Sigma rules out of `JUNO_SIGMA_RULES_DIR`: every file below it that ends in `.yml` or `.yaml`.
//!
//! **Invariant:** hidden files and directories are left out, and no directory is entered through a link.

use std::path::Path;

use juno_sql::{OperationSettings, RuleFile, Session, load_rules};

use super::{Files, stamp, text};

/// The longest file of rules, in bytes.
const RULES_BYTES_MAX: u64 = 1 << 20;
/// Files of rules, and how deep they may lie.
const FILES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 16;
/// Refused files that are named one by one.
const TOLD_MAX: usize = 20;

/// What was loaded; none where nothing has been looked for.
#[derive(Default)]
pub(super) struct Rules(Option<Files>);

impl Rules {
    /// Loads the rules where a file of them has changed. Without a directory there are none.
    pub(super) async fn load(&mut self, session: &Session, settings: &OperationSettings) {
        let mut found = Files::new();
        if let Some(dir) = &settings.sigma_rules_dir
            && let Err(error) = find(dir, "", 0, &mut found)
        {
            tracing::warn!(dir = %dir.display(), %error, "the Sigma rules cannot be read: they stay as they were");
            return;
        }
        if self.0.as_ref() == Some(&found) {
            return;
        }
        let dir = settings.sigma_rules_dir.as_deref().unwrap_or(Path::new(""));
        let read = |name: &String| RuleFile {
            name: name.clone(),
            text: text(&dir.join(name), RULES_BYTES_MAX).map_err(|error| error.to_string()),
        };
        let files: Vec<RuleFile> = found.keys().map(read).collect();
        match load_rules(session, &files).await {
            Ok(told) => {
                let refused: Vec<(&str, &String)> = told
                    .iter()
                    .filter_map(|file| file.rules.as_ref().err().map(|what| (file.name.as_str(), what)))
                    .collect();
                for (file, what) in refused.iter().take(TOLD_MAX) {
                    tracing::warn!(file, "a file of Sigma rules cannot be used: {what}");
                }
                let rules: usize = told.iter().filter_map(|file| file.rules.as_ref().ok()).sum();
                if settings.sigma_rules_dir.is_some() {
                    tracing::info!(files = told.len(), refused = refused.len(), rules, "Sigma rules were loaded");
                }
                self.0 = Some(found);
            }
            Err(error) => tracing::warn!(%error, "the Sigma rules cannot be used: they stay as they were"),
        }
    }
}

/// The files of rules below a directory.
fn find(dir: &Path, below: &str, depth: usize, found: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            if depth < DEPTH_MAX {
                find(&path, &format!("{name}/"), depth + 1, found)?;
            }
        } else if path.is_file() && (name.ends_with(".yml") || name.ends_with(".yaml")) {
            found.insert(name, stamp(&path)?);
        }
        if found.len() > FILES_MAX {
            return Err(std::io::Error::other(format!("there are more than {FILES_MAX} files of rules")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_below_their_directory_and_through_links_to_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for dir in ["linux/auth", ".git", ".data"] {
            std::fs::create_dir_all(path(dir)).expect("a directory");
        }
        for file in ["a.yml", "linux/auth/b.yaml", "linux/readme.md", ".git/c.yml", ".data/d.yml"] {
            std::fs::write(path(file), "title: x").expect("a file");
        }
        std::os::unix::fs::symlink(path(".data/d.yml"), path("d.yml")).expect("a link");
        std::os::unix::fs::symlink(path("linux"), path("again")).expect("a link");
        let mut found = Files::new();
        find(directory.path(), "", 0, &mut found).expect("a directory that can be read");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a.yml", "d.yml", "linux/auth/b.yaml"]);
        let before = found.clone();
        std::fs::write(path("a.yml"), "title: longer").expect("a file");
        find(directory.path(), "", 0, &mut found).expect("a directory that can be read");
        assert_ne!(found, before);
    }
}
