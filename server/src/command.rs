//! The commands of the `juno` binary.
//!
//! **Invariant:** exit status 0 when all was done, 1 when something failed, 2 when the command line or a setting was wrong.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use juno_sql::engine::system::System;
use juno_sql::{HouseRules, OPERATIONS, OperationSettings, Request, Shown};

use crate::actuator::process::Fleet;
use crate::config::{
    ADMIN_PASSWORD, AuditCommand, Cli, Command, ConfigDoes, ImportArgs, ServeArgs, SettingsFile, SqlArgs, UserCommand,
    WEBHOOK_SECRET, first_line, problems, report, shown, unknown_variables,
};
use crate::reload::Reload;
use crate::serve::{Config, Server, embedded};
use crate::{checked, console, demo, demo_service, import, serve, stopped, telemetry};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Serve(#[from] serve::Error),
    #[error(transparent)]
    Demo(#[from] demo::Error),
    #[error(transparent)]
    DemoService(#[from] demo_service::Error),
    #[error(transparent)]
    Sql(#[from] console::Error),
    #[error(transparent)]
    Import(#[from] import::Error),
    #[error(transparent)]
    Stopped(#[from] stopped::Error),
    #[error("--log (JUNO_LOG): {0}")]
    Log(String),
    #[error("cannot read statements from the standard input: {0}")]
    Input(std::io::Error),
    #[error("the audit is not as it was written")]
    Audit,
    #[error("{0} lines were refused; the others are stored")]
    Refused(u64),
}

/// Does what a command line says, the program's name first, and gives the exit status.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let told = Told::by(&args);
    if is_check(&args, &told) {
        return check(&args, told);
    }
    let told = match told {
        Ok(told) => told,
        Err(Untold::Line(error)) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(Untold::File(error)) => {
            eprintln!("juno: {error}");
            return ExitCode::from(2);
        }
    };
    match dispatch(told, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("juno: {error}");
            ExitCode::from(if matches!(error, Error::Import(import::Error::Usage(_))) { 2 } else { 1 })
        }
    }
}

/// Whether settings are to be checked; a command line that cannot be read says so by its first words.
fn is_check(args: &[OsString], told: &Result<Told, Untold>) -> bool {
    match told {
        Ok(told) => matches!(&told.cli.command, Command::Config(config) if config.what == Some(ConfigDoes::Check)),
        Err(Untold::Line(error)) if !error.use_stderr() => false,
        Err(_) => args.iter().skip(1).take(2).eq(["config", "check"]),
    }
}

/// Shows the settings, as far as they can be read, and says what cannot be used.
fn check(args: &[OsString], told: Result<Told, Untold>) -> ExitCode {
    warn_of_unknown();
    let mut found = problems(args, |name| std::env::var_os(name));
    match told {
        Ok(Told { cli, matches, file }) => {
            print!("{}", report(settings(&matches, file.as_ref())));
            if let Command::Config(config) = cli.command {
                found.extend(checked::unusable(&config.serve, secret(WEBHOOK_SECRET)));
            }
        }
        Err(Untold::Line(error)) if found.is_empty() => found.push(first_line(&error)),
        Err(Untold::File(error)) if found.is_empty() => found.push(error),
        Err(_) => {}
    }
    for problem in &found {
        eprintln!("{problem}");
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Warns of variables that mean nothing.
fn warn_of_unknown() {
    for name in unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        eprintln!("juno: warning: the environment variable {name} means nothing to juno");
    }
}

/// A variable of the environment that has no flag.
fn secret(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|secret| !secret.is_empty())
}

/// What juno was told to do: by its command line, the environment, and the file of settings.
struct Told {
    cli: Cli,
    matches: ArgMatches,
    file: Option<SettingsFile>,
}

/// What is wrong with that.
enum Untold {
    Line(clap::Error),
    File(String),
}

impl Told {
    fn by(args: &[OsString]) -> Result<Self, Untold> {
        let file = SettingsFile::of(args, |name| std::env::var_os(name)).map_err(Untold::File)?;
        let line = file.as_ref().map_or_else(|| args.to_vec(), |file| file.woven(args));
        let matches = Cli::command().try_get_matches_from(line).map_err(Untold::Line)?;
        let cli = Cli::from_arg_matches(&matches).map_err(Untold::Line)?;
        Ok(Self { cli, matches, file })
    }
}

/// The settings of a command that has them, with their sources.
fn settings(matches: &ArgMatches, file: Option<&SettingsFile>) -> Vec<Shown> {
    shown(matches.subcommand().map_or(matches, |(_, settings)| settings), file)
}

/// Reads the settings of a server again.
fn reload(args: Vec<OsString>) -> Reload {
    Reload::new(move || match Told::by(&args) {
        Ok(Told { cli, matches, file }) => match cli.command {
            Command::Serve(args) => Ok(args.operations.settings(settings(&matches, file.as_ref()))),
            _ => Err("this is no server".into()),
        },
        Err(Untold::Line(error)) => Err(error.to_string()),
        Err(Untold::File(error)) => Err(error),
    })
}

fn dispatch(told: Told, args: Vec<OsString>) -> Result<(), Error> {
    warn_of_unknown();
    let Told { cli, matches, file } = told;
    let log = match &cli.command {
        Command::Serve(args) => &args.machine.log,
        Command::Config(args) => &args.serve.machine.log,
        Command::Demo(args) => &args.machine.log,
        Command::Sql(args) => &args.machine.log,
        Command::Import(args) => &args.machine.log,
        Command::User(args) => &args.command.user().machine.log,
        Command::Audit(args) => &args.command.machine().log,
        Command::Check(args) => &args.log,
        Command::Backup(args) => &args.log,
        Command::Restore(args) => &args.log,
        Command::DemoService(args) => &args.log,
    };
    telemetry::log_to_stderr(&log.filter, std::io::stderr().is_terminal()).map_err(Error::Log)?;
    match cli.command {
        Command::Serve(serve) => run_server(serve, settings(&matches, file.as_ref()), reload(args)),
        Command::Demo(args) => Ok(demo::run(args)?),
        Command::Sql(args) => run_sql(args),
        Command::Import(args) => run_import(&args),
        Command::User(args) => run_user(&args.command),
        Command::Audit(args) => run_audit(&args.command),
        Command::Check(args) => Ok(stopped::check(&args)?),
        Command::Backup(args) => Ok(stopped::backup(&args)?),
        Command::Restore(args) => Ok(stopped::restore(&args)?),
        Command::DemoService(args) => Ok(demo_service::run(&args)?),
        Command::Config(_) => {
            print!("{}", report(settings(&matches, file.as_ref())));
            Ok(())
        }
    }
}

fn run_server(args: ServeArgs, shown: Vec<Shown>, reload: Reload) -> Result<(), Error> {
    let fleet = args.fleet.as_deref().map(Fleet::read).transpose().map_err(serve::Error::Fleet)?;
    let rules = args.guard_rails.as_deref().map(guard_rails).transpose()?;
    let config = Config {
        fleet,
        reach: args.reach.reach(secret(WEBHOOK_SECRET)),
        operations: OperationSettings { rules, ..args.operations.settings(shown) },
        reload: Some(reload),
        storage: args.data.storage(),
        pg_addr: args.listen.pg_addr,
        http_addr: args.listen.http_addr,
        memory: args.machine.memory(),
        device: args.machine.device,
        access: args.access,
        admin_password: secret(ADMIN_PASSWORD),
    };
    let data = config.storage.data.display().to_string();
    let server = Server::start(config)?;
    println!("{}\n  data        {data}", server.addresses());
    server.wait_for_signal()?;
    server.stop()?;
    tracing::info!("all data is flushed and closed");
    Ok(())
}

/// The rules of a file, or what is wrong with it.
pub(crate) fn guard_rails(file: &Path) -> Result<Arc<HouseRules>, serve::Error> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"));
    let rules = text.and_then(|text| HouseRules::parse(&name, &text));
    let refused = |text| serve::Error::Setting { flag: "--guard-rails", variable: "JUNO_GUARD_RAILS", text };
    rules.map(Arc::new).map_err(refused)
}

/// Verifies the audit, and says what is wrong with it.
fn run_audit(command: &AuditCommand) -> Result<(), Error> {
    let AuditCommand::Verify { data, machine } = command;
    let verify = OPERATIONS.iter().find(|operation| operation.name == "audit_verify");
    let verify = verify.expect("it is an operation: a test names it");
    let found = embedded(&data.storage(), machine, async |session| session.operate(verify, Request::default()).await)?;
    let found = found.map_err(console::Error::from)?.value;
    println!("{} rows, head {}", found["rows"], found["head"].as_str().unwrap_or_default());
    if found["whole"] == true {
        return Ok(());
    }
    eprintln!("row {}: {}", found["broken"]["seq"], found["broken"]["reason"].as_str().unwrap_or_default());
    Err(Error::Audit)
}

fn run_sql(args: SqlArgs) -> Result<(), Error> {
    let mut sql = args.sql;
    if sql == "-" {
        sql.clear();
        std::io::stdin().read_to_string(&mut sql).map_err(Error::Input)?;
    }
    Ok(embedded(&args.data.storage(), &args.machine, async |session| console::run(session, &sql, args.format).await)??)
}

/// Adds a user or changes a password; the password is the first line of the standard input, so that no process list shows it.
fn run_user(command: &UserCommand) -> Result<(), Error> {
    if std::io::stdin().is_terminal() {
        eprint!("Password: ");
    }
    let mut password = String::new();
    std::io::stdin().read_line(&mut password).map_err(Error::Input)?;
    let password = password.trim_end_matches(['\r', '\n']).replace('\'', "''");
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let sql = match command {
        UserCommand::Add { user, role } => {
            format!("CREATE USER {} PASSWORD '{password}' IN ROLE {}", quoted(&user.name), quoted(role))
        }
        UserCommand::Password { user } => format!("ALTER USER {} PASSWORD '{password}'", quoted(&user.name)),
    };
    let user = command.user();
    let done = embedded(&user.data.storage(), &user.machine, async |session| session.query(&sql).await.map(drop))?;
    Ok(done.map_err(console::Error::from)?)
}

fn run_import(args: &ImportArgs) -> Result<(), Error> {
    let system = System::real();
    let began_us = system.clock().monotonic_us();
    let summary = embedded(&args.data.storage(), &args.machine, async |session| import::run(session, args).await)??;
    let seconds = (system.clock().monotonic_us() - began_us) as f64 / 1e6;
    println!(
        "imported {} rows in {seconds:.1} s ({:.0} rows/s)",
        summary.rows,
        summary.rows as f64 / seconds.max(1e-9)
    );
    if summary.refused > 0 { Err(Error::Refused(summary.refused)) } else { Ok(()) }
}
