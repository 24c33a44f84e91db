//! The file of settings: lines `NAME=VALUE` with the names of variables, `#` before comments.
//!
//! Flags and the environment go before it. Its settings become flags of the command line, so that there is one place where values
//! are checked.
//!
//! **Invariant:** a file is taken whole or refused with the line that cannot be.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use super::check::{first_line, wrong};
use super::{Cli, FILE, all_settings};

/// The longest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The commands that have settings.
const COMMANDS: [&str; 2] = ["serve", "config"];

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    flag: &'static str,
    variable: &'static str,
    value: String,
}

impl SettingsFile {
    /// The file that a command line or the environment names; none where they name none.
    ///
    /// # Errors
    /// The file that cannot be read, or its line that cannot be used.
    pub fn of(args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, String> {
        if !args.get(1).is_some_and(|command| COMMANDS.iter().any(|name| command == name)) {
            return Ok(None);
        }
        let Some(path) = named(args, &variable) else { return Ok(None) };
        let text = text(&path)?;
        let mut file = Self::read(&path, &text)?;
        file.check()?;
        let is_set = |entry: &Entry| given(args, entry.flag).is_some() || variable(entry.variable).is_some();
        file.entries.retain(|entry| !is_set(entry));
        Ok(Some(file))
    }

    fn read(path: &Path, text: &str) -> Result<Self, String> {
        let (entries, refused) = lines(path, text);
        match refused.into_iter().next() {
            Some(first) => Err(first),
            None => Ok(Self { path: path.to_owned(), entries }),
        }
    }

    /// Checks every value, also of those that something goes before.
    fn check(&self) -> Result<(), String> {
        let args = ["juno", COMMANDS[1]].map(OsString::from);
        let parsed = Cli::command().try_get_matches_from(self.woven(&args));
        let Err(error) = parsed.and_then(|matches| Cli::from_arg_matches(&matches)) else { return Ok(()) };
        // What one setting needs of another may be given elsewhere.
        if error.kind() == ErrorKind::MissingRequiredArgument {
            return Ok(());
        }
        let blamed = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) => arg.split([' ', '=']).next().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        let what = first_line(&error);
        match self.entries.iter().find(|entry| entry.flag == blamed) {
            Some(entry) => Err(format!("{}:{}: {}: {what}", self.path.display(), entry.line, entry.variable)),
            // It is wrong elsewhere.
            None => Ok(()),
        }
    }

    /// A command line with the settings of the file.
    pub fn woven(&self, args: &[OsString]) -> Vec<OsString> {
        let flags = self.entries.iter().map(|entry| format!("{}={}", entry.flag, entry.value).into());
        args.iter().take(2).cloned().chain(flags).chain(args.iter().skip(2).cloned()).collect()
    }

    /// Where the value of a flag stands, if it comes from here.
    pub(super) fn place(&self, flag: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.flag == flag)?;
        Some(format!("file {}:{}", self.path.display(), entry.line))
    }
}

/// Everything that is wrong with the file of a command line, a line each.
pub(super) fn problems(args: &[OsString], variable: &impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let Some(path) = named(args, variable) else { return Vec::new() };
    let text = match text(&path) {
        Ok(text) => text,
        Err(error) => return vec![error],
    };
    let (entries, mut problems) = lines(&path, &text);
    for Entry { line, flag, variable, value } in entries {
        let what = wrong(flag, OsStr::new(&value));
        problems.extend(what.map(|what| format!("{}:{line}: {variable}: {what}", path.display())));
    }
    problems
}

/// The file that a command line or the environment names.
fn named(args: &[OsString], variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let (_, flag, name) = FILE;
    given(args, flag).or_else(|| variable(name)).map(PathBuf::from)
}

/// Its text.
fn text(path: &Path) -> Result<String, String> {
    let refused = |error: std::io::Error| format!("--config (JUNO_CONFIG) {}: {error}", path.display());
    if std::fs::metadata(path).map_err(refused)?.len() > FILE_BYTES_MAX {
        return Err(refused(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))));
    }
    std::fs::read_to_string(path).map_err(refused)
}

/// The lines of a text that set something, and what is wrong with others.
fn lines(path: &Path, text: &str) -> (Vec<Entry>, Vec<String>) {
    let (mut entries, mut refused): (Vec<Entry>, Vec<String>) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let (line, number) = (line.trim_start_matches('\u{feff}').trim(), at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line, number, &entries) {
            Ok(entry) => entries.push(entry),
            Err(what) => refused.push(format!("{}:{number}: {what}", path.display())),
        }
    }
    (entries, refused)
}

/// What one line sets, after others.
fn entry(text: &str, line: usize, others: &[Entry]) -> Result<Entry, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("write it as NAME=VALUE: \"{text}\""))?;
    let (name, value) = (name.trim(), value.trim());
    let known = all_settings().find(|(_, _, variable)| *variable == name && *variable != FILE.2);
    let Some(&(_, flag, variable)) = known else {
        return Err(format!("{name} is no setting: juno config shows all of them"));
    };
    match others.iter().find(|entry| entry.variable == name) {
        Some(first) => Err(format!("{name} is set in line {} already", first.line)),
        None => Ok(Entry { line, flag, variable, value: value.to_owned() }),
    }
}

/// The value of a flag on a command line.
pub(super) fn given(args: &[OsString], flag: &str) -> Option<OsString> {
    let mut rest = args.iter().skip(2).take_while(|arg| *arg != "--");
    while let Some(arg) = rest.next() {
        if arg == flag {
            return Some(rest.next().cloned().unwrap_or_default());
        }
        let text = arg.to_string_lossy();
        if let Some(value) = text.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("juno.conf");
        std::fs::write(&path, text).expect("a file");
        (directory, path)
    }

    fn line(text: &str, path: &Path) -> Vec<OsString> {
        let line = format!("juno {text}");
        line.split(' ').map(|word| word.replace("FILE", &path.display().to_string()).into()).collect()
    }

    fn words(args: &[OsString]) -> Vec<&str> {
        args.iter().filter_map(|arg| arg.to_str()).collect()
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let (_directory, path) = file("# ours\n\nJUNO_PHASE = 3\nRL_LEARNING_RATE=0.5\nHEALING_AUTOMATION_LEVEL=low\n");
        let environment = |name: &str| (name == "RL_LEARNING_RATE").then(|| OsString::from("0.25"));
        let args = line("serve --config=FILE --phase 2", &path);
        let found = SettingsFile::of(&args, environment).expect("a file").expect("it is named");
        let woven = found.woven(&args);
        assert_eq!(words(&woven)[..3], ["juno", "serve", "--healing-automation-level=low"]);
        assert_eq!(woven.len(), args.len() + 1);
        let place = format!("file {}:5", path.display());
        assert_eq!((found.place("--healing-automation-level"), found.place("--phase")), (Some(place), None));
        assert!(Cli::command().try_get_matches_from(woven).is_ok());
    }

    #[test]
    fn the_environment_names_the_file_of_commands_that_have_settings() {
        let (_directory, path) = file("JUNO_PHASE=3\n");
        let environment = |name: &str| (name == "JUNO_CONFIG").then(|| path.clone().into_os_string());
        for (command, named) in [("serve", true), ("config", true), ("sql", false)] {
            let found = SettingsFile::of(&line(command, &path), environment).expect("a file");
            assert_eq!(found.is_some(), named, "{command}");
        }
        assert_eq!(SettingsFile::of(&line("serve", &path), |_| None), Ok(None));
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named() {
        for (text, number, part) in [
            ("JUNO_PHASE=3\nJUNO_PHASES=4\n", 2, "no setting"),
            ("JUNO_CONFIG=x\n", 1, "no setting"),
            ("JUNO_PHASE\n", 1, "NAME=VALUE"),
            ("JUNO_PHASE=3\nRL_LEARNING_RATE=1\nJUNO_PHASE=4\n", 3, "line 1 already"),
            ("\nJUNO_PHASE=9\n", 2, "invalid value '9'"),
            ("HEALING_AUTOMATION_LEVEL=some\n", 1, "off, low, medium"),
            ("# a\nSCALING_COOLDOWN_PERIOD=\n", 2, "SCALING_COOLDOWN_PERIOD"),
        ] {
            let (_directory, path) = file(text);
            // Though the flag goes before it.
            let args = line("serve --config FILE --phase 4", &path);
            let refused = SettingsFile::of(&args, |_| None).expect_err(text);
            let place = format!("{}:{number}: ", path.display());
            assert!(refused.starts_with(&place) && refused.contains(part), "{text}: {refused}");
        }
        let (_directory, path) = file("");
        let gone = SettingsFile::of(&line("serve --config FILE.not", &path), |_| None).expect_err("no file");
        assert!(gone.contains("--config") && gone.contains("juno.conf.not"), "{gone}");
    }

    #[test]
    fn what_needs_another_setting_may_have_it_elsewhere() {
        let (_directory, path) = file("JUNO_TLS_CERT=/a.pem\n");
        let args = line("serve --config FILE --tls-key /b.pem", &path);
        let found = SettingsFile::of(&args, |_| None).expect("a file").expect("it is named");
        assert!(Cli::command().try_get_matches_from(found.woven(&args)).is_ok());
    }
}
