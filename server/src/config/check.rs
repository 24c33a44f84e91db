//! `juno config check`: everything that is wrong with the settings of a command line, the environment and the file, not the first of
//! it alone.
//!
//! **Invariant:** each setting is judged by itself, so that one that is wrong hides no other.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, ValueEnum};

use super::file::{self, given};
use super::{Cli, ServeArgs, all_settings};

/// `juno config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// check also says what of the settings and their files cannot be used, a line each, and then ends with status 2
    #[arg(value_enum, value_name = "check")]
    pub what: Option<ConfigDoes>,
    /// The settings.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What `juno config` does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigDoes {
    /// Say what cannot be used
    Check,
}

/// What is wrong with the values of settings, a line each.
pub fn problems(args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let mut problems = file::problems(args, &variable);
    for (_, flag, name) in all_settings() {
        let (source, value) = match (given(args, flag), variable(name)) {
            (Some(value), _) => ((*flag).to_owned(), value),
            (None, Some(value)) => (format!("environment {name}"), value),
            (None, None) => continue,
        };
        problems.extend(wrong(flag, &value).map(|what| format!("{source}: {what}")));
    }
    problems
}

/// What is wrong with a value of a setting, whatever the others are.
pub(super) fn wrong(flag: &str, value: &OsStr) -> Option<String> {
    let mut arg = OsString::from(format!("{flag}="));
    arg.push(value);
    let command =
        Cli::command().mut_subcommand("config", |config| config.mut_args(|setting| setting.env(None::<&'static str>)));
    let parsed = command.try_get_matches_from([OsString::from("juno"), OsString::from("config"), arg]);
    let error = parsed.and_then(|matches| Cli::from_arg_matches(&matches)).err()?;
    // What it needs of another setting is asked of all of them together.
    (error.kind() != ErrorKind::MissingRequiredArgument).then(|| first_line(&error))
}

/// What an error says, without how to use the command.
pub fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, environment: &[(&str, &str)], file: &str) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("juno.conf");
        std::fs::write(&path, file).expect("a file");
        let path = path.display().to_string();
        let args: Vec<OsString> = line.split(' ').map(|word| word.replace("FILE", &path).into()).collect();
        let variable = |name: &str| {
            let found = environment.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| OsString::from(*value))
        };
        problems(&args, variable).into_iter().map(|problem| problem.replace(&path, "FILE")).collect()
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let file = "JUNO_PHASES=4\nJUNO_PHASE=9\nRL_LEARNING_RATE\nSCALING_COOLDOWN_PERIOD=60\n";
        let environment = [("HEALING_AUTOMATION_LEVEL", "some"), ("JUNO_QUERY_MEMORY", "512MiB")];
        let found = found("juno config check --config FILE --pg-addr 5432", &environment, file);
        for (place, part) in [
            ("FILE:1: ", "no setting"),
            ("FILE:3: ", "NAME=VALUE"),
            ("FILE:2: JUNO_PHASE: ", "9"),
            ("--pg-addr: ", "HOST:PORT"),
            ("environment HEALING_AUTOMATION_LEVEL: ", "some"),
        ] {
            let is_one = |problem: &&String| problem.starts_with(place) && problem.contains(part);
            assert_eq!(found.iter().filter(is_one).count(), 1, "{place}: {found:?}");
        }
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|problem| !problem.contains('\n')), "{found:?}");
    }

    #[test]
    fn what_can_be_used_has_no_problem_and_a_file_that_is_gone_has_one() {
        assert!(found("juno config check --config FILE --phase 3 --tls-cert a.pem", &[], "JUNO_PHASE=4\n").is_empty());
        let gone = found("juno config check --config FILE.not", &[], "");
        assert!(gone.len() == 1 && gone[0].contains("FILE.not"), "{gone:?}");
    }
}
