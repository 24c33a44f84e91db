//! Files and directories on the server's machine that statements name.
//!
//! A relative path is one in a folder of the data directory that is there for it; an absolute one is taken as it is, but not inside
//! the rest of the data directory, whose files are juno's own.
//!
//! **Invariant:** opens and makes nothing; who may name a file is decided in `role`.

use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// The place that a statement names as `path`, for a database in `data`; `folder` is where relative paths begin.
///
/// # Errors
/// [`Error::InvalidArgument`] for a path with `.` or `..`, and for one of juno's own files.
pub fn place(data: &Path, folder: &str, path: &str) -> Result<PathBuf> {
    let named = Path::new(path);
    let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    if path.is_empty() || !named.components().all(plain) {
        return Err(Error::InvalidArgument(format!("\"{path}\" is no plain path: write it without . and ..")));
    }
    if named.is_relative() {
        return Ok(data.join(folder).join(named));
    }
    let (real, data) = (real(named), real(data));
    if real.starts_with(&data) && !(real.starts_with(data.join(folder)) && real != data.join(folder)) {
        return Err(Error::InvalidArgument(format!(
            "\"{path}\" is inside the data directory, whose files are juno's own"
        )));
    }
    Ok(named.to_owned())
}

/// The path with all links followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let Ok(found) = there.canonicalize() {
            let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_its_folder_or_anywhere_but_in_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let data = root.join("data");
        std::fs::create_dir_all(data.join("import")).unwrap();
        let of = |path: &str| place(&data, "import", path);
        let absolute = |path: &str| of(root.join(path).to_str().unwrap());
        assert_eq!(of("a/b.csv").unwrap(), data.join("import/a/b.csv"));
        assert_eq!(absolute("new/b.csv").unwrap(), root.join("new/b.csv"));
        assert_eq!(absolute("data/import/b.csv").unwrap(), data.join("import/b.csv"));
        for odd in ["", "../x", "a/../b", "./x"] {
            assert!(matches!(of(odd), Err(Error::InvalidArgument(_))), "{odd}");
        }
        std::os::unix::fs::symlink(&data, root.join("link")).unwrap();
        for own in ["data", "data/LOCK", "data/new/x", "data/import", "data/imports", "link/LOCK", "link"] {
            assert!(matches!(absolute(own), Err(Error::InvalidArgument(_))), "{own}");
        }
        assert!(absolute("link/import/x").is_ok());
    }
}
