//! The rules that the tree keeps: who may import whom, how long a file may be, what every file must say of itself.
//!
//! **Invariant:** reads text, builds nothing; a broken rule is named with file and line.

use std::path::{Path, PathBuf};

/// A source file may have so many lines and no more.
const FILE_LINES_MAX: usize = 600;
/// Nine of ten files stay within so many.
const FILE_LINES_USUAL_MAX: usize = 400;

/// What must not be named in a folder, with the reason. A pattern is looked for at the start of a path in the code.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "engine/src",
        &["juno_kernels", "juno_sql", "juno_server", "datafusion", "tokio", "axum", "pgwire", "cudarc"],
        "the engine is synchronous storage and knows nothing above it",
    ),
    (
        "kernels/src",
        &["juno_engine", "juno_sql", "juno_server", "arrow", "parquet", "datafusion", "tokio", "axum", "pgwire"],
        "a kernel takes slices and gives slices",
    ),
    ("sql/src", &["juno_server", "axum", "pgwire", "cudarc", "parquet"], "SQL knows no sockets, no devices, no files"),
    ("server/src", &["cudarc"], "devices belong to kernels"),
];

/// The top level, besides dot files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "docs",
    "engine",
    "kernels",
    "migrations",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "server",
    "sql",
    "tests",
];

/// Names that say nothing about what is in a file.
const CATCH_ALL: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of the workspace").to_path_buf()
}

/// Files with this ending under a folder, with their paths from the root.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("UTF-8 source")));
            }
        }
    }
    found
}

fn sources() -> Vec<(String, String)> {
    ["engine", "kernels", "sql", "server", "tests", "benches"].iter().flat_map(|folder| files(folder, "rs")).collect()
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "{} places break a rule:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let mut broken = Vec::new();
    for (folder, names, reason) in FORBIDDEN {
        for (file, text) in files(folder, "rs") {
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                for name in *names {
                    let named = line.match_indices(&format!("{name}::")).any(|(at, _)| !line[..at].ends_with(is_word));
                    if named || line.trim() == format!("use {name};") {
                        broken.push(format!("{file}:{}: names {name}, but {reason}", number + 1));
                    }
                }
            }
        }
    }
    none(broken);
}

#[test]
fn parquet_is_known_by_parts_only_and_cudarc_by_devices_only() {
    let mut broken = Vec::new();
    let is_part =
        |file: &str| file.starts_with("engine/src/part") || file == "engine/src/error.rs" || file.contains("/tests/");
    let is_device =
        |file: &str| file.starts_with("kernels/src/device") || file.ends_with("/cuda.rs") || file.contains("/nvrtc");
    for (file, text) in files("engine/src", "rs") {
        if text.contains("parquet::") && !is_part(&file) {
            broken.push(format!("{file}: Parquet is known by engine/part alone"));
        }
    }
    for (file, text) in files("kernels/src", "rs") {
        if text.contains("cudarc::") && !is_device(&file) {
            broken.push(format!("{file}: cudarc is known by device.rs and cuda.rs alone"));
        }
    }
    none(broken);
}

#[test]
fn the_engine_takes_threads_and_locks_from_where_they_can_be_simulated() {
    let foreign = [
        "parking_lot::",
        "crossbeam::",
        "thread::spawn",
        "thread::scope",
        "thread::Builder",
        "sync::Mutex",
        "sync::RwLock",
        "sync::Condvar",
        "sync::mpsc",
    ];
    let own = |file: &str| file.starts_with("engine/src/system") || file.contains("/tests/");
    let mut broken = Vec::new();
    for (file, text) in files("engine/src", "rs").into_iter().filter(|(file, _)| !own(file)) {
        for (number, line) in text.lines().enumerate() {
            if foreign.iter().any(|name| line.contains(name)) && !line.contains("system::sync::") {
                broken.push(format!("{file}:{}: take it from engine/src/system/sync.rs", number + 1));
            }
        }
    }
    none(broken);
}

#[test]
fn unsafe_code_stays_in_the_device_rooms_and_says_why() {
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let device = file.starts_with("kernels/src") && (file.contains("cuda") || file.contains("device"));
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains(&["unsafe", " {"].concat()) {
                continue;
            }
            if !device {
                broken.push(format!("{file}:{}: unsafe code belongs to kernels' cuda.rs and device.rs", index + 1));
            } else if !lines[index.saturating_sub(8)..=index].iter().any(|line| line.contains("SAFETY:")) {
                broken.push(format!("{file}:{}: unsafe without a // SAFETY: comment", index + 1));
            }
        }
    }
    none(broken);
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let all = sources();
    let mut broken = Vec::new();
    for (file, text) in &all {
        let lines = text.lines().count();
        if !text.starts_with("//!") {
            broken.push(format!("{file}: must open with //! and say what it is"));
        }
        if lines > FILE_LINES_MAX {
            broken.push(format!("{file}: {lines} lines, more than {FILE_LINES_MAX}: split it by noun"));
        }
        let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if CATCH_ALL.contains(&stem) {
            broken.push(format!("{file}: a file is named after one noun, not {stem}"));
        }
    }
    let long = all.iter().filter(|(_, text)| text.lines().count() > FILE_LINES_USUAL_MAX).count();
    if long * 10 > all.len() {
        broken.push(format!(
            "{long} of {} files have more than {FILE_LINES_USUAL_MAX} lines: at most one in ten may",
            all.len()
        ));
    }
    none(broken);
}

#[test]
fn library_files_state_an_invariant() {
    let broken = ["engine/src", "kernels/src", "sql/src", "server/src"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .filter(|(file, _)| !file.ends_with("tests.rs") && !file.contains("/tests/"))
        .filter(|(_, text)| {
            !text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("**Invariant:**"))
        })
        .map(|(file, _)| format!("{file}: the //! text must hold an **Invariant:** sentence"))
        .collect();
    none(broken);
}

#[test]
fn the_top_level_is_what_it_was_agreed_to_be() {
    let broken = std::fs::read_dir(root())
        .expect("the workspace")
        .map(|entry| entry.expect("a readable entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !["target", "shared"].contains(&name.as_str()))
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: not part of the agreed top level"))
        .collect();
    none(broken);
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let mut names: Vec<String> =
        files("migrations", "sql").into_iter().map(|(file, _)| file.replace("migrations/", "")).collect();
    names.sort();
    let broken = names
        .iter()
        .enumerate()
        .filter(|(index, name)| !name.starts_with(&format!("{:04}_", index + 1)))
        .map(|(index, name)| format!("{name}: should be number {}", index + 1))
        .collect();
    none(broken);
}

#[test]
fn nothing_unfinished_is_in_the_tree() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]].map(|word| word.concat());
    let mut broken = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                broken.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(broken);
}
