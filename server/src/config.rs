//! The command line, its environment variables, and the report of where each setting came from.
//!
//! **Invariant:** reads no file but that of settings and opens nothing; every setting has one default, which stands here.

mod check;
mod file;
mod operations;
mod reach;

pub use check::{ConfigArgs, ConfigDoes, first_line, problems};
pub use file::SettingsFile;
pub use operations::OperationArgs;
pub use reach::{ReachArgs, WEBHOOK_SECRET};

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use juno_sql::{Memory, Shown};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use url::Url;

use crate::bucket::Bucket;
use crate::demo_service::DemoServiceArgs;
use crate::serve::Storage;

/// The least memory that a query can do with, in bytes.
const SIZE_MIN: usize = 1 << 20;
/// The directory that holds a database where none is named.
pub const DATA_DEFAULT: &str = "juno-data";

/// What parts of a bucket may take as local copies where nothing else is set: 10 GiB.
const OBJECT_CACHE_BYTES: u64 = 10 << 30;

/// A time-series database with machine learning inside it.
#[derive(Debug, Parser)]
#[command(name = "juno", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve PostgreSQL clients and HTTP on a data directory
    Serve(ServeArgs),
    /// Serve generated telemetry with incidents in it, and show what to try
    Demo(DemoArgs),
    /// Run SQL on a data directory, without a server
    Sql(SqlArgs),
    /// Import files: Parquet, CSV, NDJSON, Arrow or line protocol, by extension; text may be gzipped
    Import(ImportArgs),
    /// Add a user or change a password, without a server; the password is read from the standard input
    User(UserArgs),
    /// Look at the audit of operations, without a server; a running one does it by CALL audit_verify()
    Audit(AuditArgs),
    /// Read a database's files against their checksums, without a server
    Check(CheckArgs),
    /// Copy a database to a new directory, without a server; a running one does it by CALL backup('DIR')
    Backup(BackupArgs),
    /// Make a data directory of a backup
    Restore(RestoreArgs),
    /// Show the effective settings and where each comes from
    Config(ConfigArgs),
    /// Run a service of the demo's fleet, which can be broken
    #[command(hide = true)]
    DemoService(DemoServiceArgs),
}

/// `juno serve`, and what `juno config` looks at.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// File with settings as lines NAME=VALUE; flags and the environment go before it, and SIGHUP reads it again
    #[arg(long, env = "JUNO_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Who is let in.
    #[command(flatten)]
    pub access: AccessArgs,
    /// How to run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// File with the fleet of local processes that juno runs and heals, as JSON
    #[arg(long, env = "JUNO_FLEET", value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// File with guard rails in Rego, of the package juno: its deny and ask hold on top of juno's own
    #[arg(long, env = "JUNO_GUARD_RAILS", value_name = "FILE")]
    pub guard_rails: Option<PathBuf>,
    /// What is reached beyond this machine.
    #[command(flatten)]
    pub reach: ReachArgs,
    /// What operations may do.
    #[command(flatten)]
    pub operations: OperationArgs,
}

/// `juno audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What `juno audit` does.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Say whether every row of the audit follows the one before, unchanged
    Verify {
        /// Where the data is.
        #[command(flatten)]
        data: DataArgs,
        /// How to run.
        #[command(flatten)]
        machine: MachineArgs,
    },
}

impl AuditCommand {
    /// How to run it.
    pub fn machine(&self) -> &MachineArgs {
        let AuditCommand::Verify { machine, .. } = self;
        machine
    }
}

/// `juno user`.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What `juno user` does.
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Add a user; the first one must be an admin
    Add {
        /// The user.
        #[command(flatten)]
        user: NamedUser,
        /// viewer, operator, responder, approver or admin
        #[arg(long)]
        role: String,
    },
    /// Change a user's password
    Password {
        /// The user.
        #[command(flatten)]
        user: NamedUser,
    },
}

/// A user of a database.
#[derive(Debug, Clone, Args)]
pub struct NamedUser {
    /// The name
    pub name: String,
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub machine: MachineArgs,
}

impl UserCommand {
    /// The user that it is about.
    pub fn user(&self) -> &NamedUser {
        match self {
            UserCommand::Add { user, .. } | UserCommand::Password { user } => user,
        }
    }
}

/// `juno demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Directory for the demo's data [default: a new temporary one, removed at the end]
    #[arg(long, env = "JUNO_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// How to run.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// `juno sql`.
#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// Statements, or - to read them from the standard input
    pub sql: String,
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// How to print rows
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// `juno import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Files to import
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Table to import into; line protocol may do without, its lines name their own
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Column that holds the time [default: time, timestamp, ts, or the only one of a time type]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// Tag columns of a new table, by comma [default: all text columns]
    #[arg(long, value_name = "COLUMNS")]
    pub tags: Option<String>,
    /// Unit of integer times: ns, us, ms, s, m, h [default for line protocol: ns]
    #[arg(long, value_name = "UNIT")]
    pub precision: Option<String>,
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// How to run.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// `juno check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `juno backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataArgs,
    /// New directory for the backup
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// `juno restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Directory that holds the backup
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// New data directory
    #[arg(long, env = "JUNO_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Data directory; made where it is not there
    #[arg(long, env = "JUNO_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    pub data: PathBuf,
    /// Bucket that holds the parts, as s3://BUCKET/PREFIX; credentials, region and endpoint come from AWS_… variables [default: the parts are in the data directory]
    #[arg(long, env = "JUNO_OBJECT_STORE", value_name = "URL")]
    pub object_store: Option<Url>,
    /// What parts of a bucket may take as local copies, in bytes
    #[arg(long, env = "JUNO_OBJECT_CACHE_BYTES", value_name = "BYTES", default_value_t = OBJECT_CACHE_BYTES)]
    pub object_cache_bytes: u64,
}

impl DataArgs {
    /// Where the data is.
    pub fn storage(&self) -> Storage {
        let cache_bytes_max = self.object_cache_bytes;
        let bucket = self.object_store.clone().map(|url| Bucket { url, cache_bytes_max });
        Storage { data: self.data.clone(), bucket }
    }
}

/// Where to listen. Addresses of other machines need users.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListenArgs {
    /// Address for PostgreSQL clients
    #[arg(long, env = "JUNO_PG_ADDR", value_name = "ADDR", default_value = "127.0.0.1:5432", value_parser = address)]
    pub pg_addr: SocketAddr,
    /// Address for HTTP
    #[arg(long, env = "JUNO_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http_addr: SocketAddr,
}

/// Encryption, and tokens for HTTP.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessArgs {
    /// PEM file with the certificate and its chain: both doors are encrypted
    #[arg(long, env = "JUNO_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, env = "JUNO_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// File with tokens for HTTP, one a line: NAME ROLE and the token's SHA-256 in hex
    #[arg(long, env = "JUNO_AUTH_TOKENS_FILE", value_name = "FILE")]
    pub auth_tokens_file: Option<PathBuf>,
    /// on; or off: everybody on this machine is let in and may do everything, whoever is set up, and both addresses must be loopback
    #[arg(long, env = "JUNO_AUTH", value_enum, value_name = "on|off", default_value_t = Auth::On)]
    pub auth: Auth,
}

/// Whether clients must say who they are, where users or tokens are set up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They must
    #[default]
    On,
    /// Nobody must
    Off,
}

/// How to run.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Device for ML functions: auto, cpu, cuda or cuda:N
    #[arg(long, env = "JUNO_DEVICE", value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Memory that one query may hold: bytes, or with a unit as in 512MiB
    #[arg(long, env = "JUNO_QUERY_MEMORY", value_name = "SIZE", default_value = "2GiB", value_parser = bytes)]
    pub query_memory: usize,
    /// Memory that all queries together may hold
    #[arg(long, env = "JUNO_QUERIES_MEMORY", value_name = "SIZE", default_value = "4GiB", value_parser = bytes)]
    pub queries_memory: usize,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is logged.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Log filter: error, warn, info, debug, or per module as in juno_server=debug
    #[arg(id = "log", long = "log", env = "JUNO_LOG", value_name = "FILTER", default_value = "info")]
    pub filter: String,
}

/// How `juno sql` prints rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// RFC 4180 with a header
    Csv,
    /// One array of objects
    Json,
}

/// A setting: the id, the flag and the variable.
type Setting = (&'static str, &'static str, &'static str);

/// The one that names the file of settings.
const FILE: Setting = ("config", "--config", "JUNO_CONFIG");

/// Settings that `juno config` shows.
const SETTINGS: &[Setting] = &[
    FILE,
    ("data", "--data", "JUNO_DATA"),
    ("object_store", "--object-store", "JUNO_OBJECT_STORE"),
    ("object_cache_bytes", "--object-cache-bytes", "JUNO_OBJECT_CACHE_BYTES"),
    ("pg_addr", "--pg-addr", "JUNO_PG_ADDR"),
    ("http_addr", "--http-addr", "JUNO_HTTP_ADDR"),
    ("tls_cert", "--tls-cert", "JUNO_TLS_CERT"),
    ("tls_key", "--tls-key", "JUNO_TLS_KEY"),
    ("auth_tokens_file", "--auth-tokens-file", "JUNO_AUTH_TOKENS_FILE"),
    ("auth", "--auth", "JUNO_AUTH"),
    ("device", "--device", "JUNO_DEVICE"),
    ("query_memory", "--query-memory", "JUNO_QUERY_MEMORY"),
    ("queries_memory", "--queries-memory", "JUNO_QUERIES_MEMORY"),
    ("log", "--log", "JUNO_LOG"),
    ("fleet", "--fleet", "JUNO_FLEET"),
    ("guard_rails", "--guard-rails", "JUNO_GUARD_RAILS"),
];

fn all_settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(reach::SETTINGS).chain(operations::SETTINGS)
}

/// Whether the setting of this name can change while juno runs.
pub(crate) fn is_reloadable(name: &str) -> bool {
    operations::SETTINGS.iter().any(|(_, flag, _)| flag[2..] == *name)
}

/// Every setting with its value and where that came from, from the matches of a subcommand and the file woven into them.
pub fn shown(matches: &ArgMatches, file: Option<&SettingsFile>) -> Vec<Shown> {
    let one = |(id, flag, variable): &Setting| {
        let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => {
                file.and_then(|file| file.place(flag)).unwrap_or_else(|| format!("flag {flag}"))
            }
            Some(ValueSource::EnvVariable) => format!("environment {variable}"),
            _ => format!("default (set {flag} or {variable})"),
        };
        Shown { name: flag[2..].to_owned(), value: values.collect::<Vec<_>>().join(","), source }
    };
    all_settings().map(one).collect()
}

/// The report of `juno config`.
pub fn report(shown: Vec<Shown>) -> String {
    let line = |Shown { name, value, source }: Shown| format!("{name:<30} {value:<24} {source}\n");
    let head = format!("{:<30} {:<24} {}\n", "SETTING", "VALUE", "SOURCE");
    std::iter::once(head).chain(shown.into_iter().map(line)).collect()
}

/// The variable with the first admin's password. It has no flag: a process list would show it.
pub const ADMIN_PASSWORD: &str = "JUNO_ADMIN_PASSWORD";

/// Names that start with `JUNO_` and mean nothing, such as a misspelt setting. `JUNO_REQUIRE_…` are switches of the tests.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &String| {
        all_settings().any(|(_, _, variable)| variable == name)
            || name == ADMIN_PASSWORD
            || name == WEBHOOK_SECRET
            || name.starts_with("JUNO_REQUIRE_")
    };
    names.filter(|name| name.starts_with("JUNO_") && !known(name)).collect()
}

impl MachineArgs {
    /// What queries may hold.
    pub fn memory(&self) -> Memory {
        Memory { query_bytes_max: self.query_memory, all_bytes_max: self.queries_memory }
    }
}

/// A size: `1048576`, `64KiB`, `512MiB`, `2GiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" | "kb" => Some(1 << 10),
        "m" | "mib" | "mb" => Some(1 << 20),
        "g" | "gib" | "gb" => Some(1 << 30),
        _ => None,
    };
    let size = text[..digits].parse::<usize>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    size.filter(|size| *size >= SIZE_MIN).ok_or_else(|| "write a size of at least 1MiB, for instance 512MiB".into())
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found =
        text.to_socket_addrs().map_err(|_| "write it as HOST:PORT, for instance 127.0.0.1:5432".to_owned())?;
    found.next().ok_or_else(|| "this name has no address".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["1048576", "64 MiB", "2g"].map(|text| bytes(text).unwrap());
        assert_eq!(sizes, [1 << 20, 64 << 20, 2 << 30]);
        assert!(["", "1", "2 lots", "-1", "99999999999g"].into_iter().all(|text| bytes(text).is_err()));
    }

    #[test]
    fn an_address_must_have_a_port_and_a_certificate_its_key() {
        assert!(parsed("juno serve --http-addr 8080").unwrap_err().to_string().contains("HOST:PORT"));
        assert!(parsed("juno serve --pg-addr localhost:5433 --http-addr [::1]:0").is_ok());
        assert!(parsed("juno serve --tls-cert a.pem").unwrap_err().to_string().contains("--tls-key"));
    }

    #[test]
    fn authentication_is_on_unless_it_is_said_to_be_off() {
        let auth = |line: &str| match parsed(line).map(|cli| cli.command) {
            Ok(Command::Serve(args)) => Some(args.access.auth),
            _ => None,
        };
        assert_eq!(auth("juno serve"), Some(Auth::On));
        assert_eq!(auth("juno serve --auth off"), Some(Auth::Off));
        assert_eq!(auth("juno serve --auth false"), None);
        let matches = Cli::command().get_matches_from("juno config --auth off".split(' '));
        let shown = shown(matches.subcommand_matches("config").expect("the subcommand was given"), None);
        let auth = shown.iter().find(|setting| setting.name == "auth").expect("it is shown");
        assert_eq!((auth.value.as_str(), auth.source.as_str()), ("off", "flag --auth"));
        assert!(!is_reloadable("auth"), "it takes another start");
    }

    #[test]
    fn the_report_says_where_a_setting_came_from() {
        let matches = Cli::command().get_matches_from("juno config --data /x".split(' '));
        let report = report(shown(matches.subcommand_matches("config").expect("the subcommand was given"), None));
        let line = |name: &str| report.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert!(line("data").contains("/x") && line("data").contains("flag --data"), "{report}");
        assert!(line("http-addr").contains("127.0.0.1:8080") && line("http-addr").contains("default"), "{report}");
    }

    #[test]
    fn every_setting_of_operations_is_shown_and_checked() {
        let matches =
            Cli::command().get_matches_from("juno config --phase 3 --healing-automation-level full".split(' '));
        let shown = shown(matches.subcommand_matches("config").expect("the subcommand was given"), None);
        let one = |name: &str| shown.iter().find(|setting| setting.name == name).expect(name);
        assert_eq!((one("phase").value.as_str(), one("phase").source.as_str()), ("3", "flag --phase"));
        assert_eq!(one("rl-reward-discount").value, "0.95");
        let urls = "http://a.example/x,https://b.example/y";
        let matches = Cli::command().get_matches_from(format!("juno config --feeds-urls {urls}").split(' '));
        let shown = super::shown(matches.subcommand_matches("config").expect("the subcommand was given"), None);
        assert!(shown.iter().any(|setting| setting.name == "feeds-urls" && setting.value == urls));
        for odd in [
            "--phase 5",
            "--phase 0",
            "--ai-native-operations perhaps",
            "--healing-automation-level some",
            "--threat-detection-sensitivity 1.5",
            "--rl-learning-rate 0",
            "--scaling-forecast-horizon 0",
            "--kubernetes-namespace My_Shop",
            "--feeds-interval 0",
            "--feeds-urls ftp://feeds.example/list",
            "--feeds-urls https://feeds.example/a,nowhere",
        ] {
            assert!(parsed(&format!("juno serve {odd}")).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_is_reached_is_shown_and_the_secret_is_not() {
        let line = "juno serve --kubernetes-namespace shop --escalation-url https://example.org/call";
        let Command::Serve(args) = parsed(line).unwrap().command else { panic!("{line}") };
        let reach = args.reach.reach(Some("a secret of some length".into()));
        let workloads = reach.kubernetes.unwrap();
        assert_eq!((workloads.namespace.as_str(), workloads.selector.as_str()), ("shop", "juno.io/managed=true"));
        assert_eq!(reach.escalation_url.as_deref(), Some("https://example.org/call"));
        let matches = Cli::command().get_matches_from("juno config --webhook-url https://example.org/act".split(' '));
        let report = report(shown(matches.subcommand_matches("config").expect("the subcommand was given"), None));
        for shown in ["kubernetes-namespace", "kubernetes-selector", "https://example.org/act", "escalation-url"] {
            assert!(report.contains(shown), "{report}");
        }
        assert!(!report.contains("SECRET"), "{report}");
    }

    #[test]
    fn misspelt_variables_are_found() {
        let names =
            ["JUNO_DATA", "JUNO_HTTP", "PATH", "JUNO_REQUIRE_GPU", "JUNO_WEBHOOK_SECRET", "JUNO_ESCALATION_URL"];
        let names = names.map(str::to_owned);
        assert_eq!(unknown_variables(names.into_iter()), ["JUNO_HTTP"]);
    }
}
