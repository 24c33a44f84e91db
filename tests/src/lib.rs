//! The harness of tests and benches: a juno process on free ports and a data directory of its own, and the clients to ask it.
//!
//! **Invariant:** what a client sees is asked of a real process over real sockets; a server is killed when it is dropped.

pub mod attack;
pub mod chaos;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long the log is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first argument that makes a measuring command become juno.
const AS_JUNO: &str = "as-juno";

static PROGRAM: OnceLock<(PathBuf, Option<&'static str>)> = OnceLock::new();

/// Says which program is juno; the tests' own binary, once, before the first server.
pub fn use_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set((path.into(), None));
}

/// A measuring command calls this first: run as juno, it does what juno does and gives the exit code.
pub fn as_juno() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let program = args.next()?;
    let _ = PROGRAM.set((std::env::current_exe().ok()?, Some(AS_JUNO)));
    (args.next()? == AS_JUNO).then(|| juno_server::run(std::iter::once(program).chain(args)))
}

/// A juno command; it knows no JUNO_* variables but those that are added.
pub fn juno(args: &[&str]) -> Command {
    let (program, first) = PROGRAM.get().expect("use_program or as_juno comes first");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JUNO_") {
            command.env_remove(name);
        }
    }
    command.args(first.iter().map(OsString::from)).args(args).stdin(Stdio::null());
    command
}

/// A command in a mount namespace of its own, in which a shell first runs a script.
fn privately(script: &str, command: &Command, data: &str) -> Command {
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &format!("{script} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).env("DATA", data).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// A juno server.
pub struct Server {
    directory: Option<tempfile::TempDir>,
    data: PathBuf,
    child: Option<Child>,
    pg_port: u16,
    http_port: u16,
    variables: Vec<(String, String)>,
    before: Option<String>,
    log: Arc<Log>,
}

/// What the server has said on stderr since it was ready.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: String) {
        eprintln!("juno: {line}");
        self.lines().push(line);
        self.more.notify_all();
    }
}

/// How many lines have this text.
fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

impl Server {
    /// A server on an empty database, ready to be asked.
    ///
    /// # Errors
    /// Where it does not come up; the text holds what it printed.
    pub fn start() -> Result<Server> {
        let mut server = Server::prepare()?;
        server.run()?;
        Ok(server)
    }

    /// A server that is not running yet, with a data directory of its own.
    ///
    /// # Errors
    /// Where no directory can be made.
    pub fn prepare() -> Result<Server> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let directory = Some(directory);
        let (variables, before, log) = (Vec::new(), None, Arc::default());
        Ok(Server { directory, data, child: None, pg_port: 0, http_port: 0, variables, before, log })
    }

    /// A shell runs this before it becomes the server, where it may mount what nobody else sees; `$DATA` is the data directory.
    pub fn before(&mut self, script: &str) {
        self.before = Some(script.to_owned());
    }

    /// Gives the server an environment variable, from its next run on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Runs the server on its data directory, again after it was stopped or killed.
    ///
    /// # Errors
    /// Where it does not come up; the text holds what it printed.
    pub fn run(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server runs already");
        let data = self.data.display().to_string();
        let args = ["serve", "--data", &data, "--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
        let juno = juno(&args);
        let mut command = match &self.before {
            None => juno,
            Some(script) => privately(script, &juno, &data),
        };
        command.envs(self.variables.iter().cloned()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let mut seen = String::new();
        while self.pg_port == 0 || self.http_port == 0 {
            let Some(line) = lines.next() else {
                let mut errors = String::new();
                child.stderr.take().context("stderr is piped")?.read_to_string(&mut errors)?;
                bail!("juno ended before it was ready: {seen}{errors}");
            };
            let line = line?;
            for (door, port) in [("PostgreSQL", &mut self.pg_port), ("HTTP", &mut self.http_port)] {
                if line.contains(door)
                    && let Some((_, rest)) = line.split_once("127.0.0.1:")
                {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    *port = digits.parse().with_context(|| format!("no port in \"{line}\""))?;
                }
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        // Both pipes are read on, so that the server never waits for a reader.
        let errors = child.stderr.take().context("stderr is piped")?;
        std::thread::spawn(move || lines.for_each(drop));
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).for_each(|line| log.add(line)));
        self.child = Some(child);
        Ok(())
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        (self.pg_port, self.http_port) = (0, 0);
        Ok(())
    }

    /// Asks the process to end, and gives its exit code.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        let mut child = self.child.take().context("the server does not run")?;
        ensure!(Command::new("kill").arg(child.id().to_string()).status()?.success(), "kill failed");
        (self.pg_port, self.http_port) = (0, 0);
        Ok(child.wait()?.code())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// How many lines of its log have this text.
    pub fn logged(&self, text: &str) -> usize {
        count(&self.log.lines(), text)
    }

    /// Waits until more than so many lines of its log have this text.
    ///
    /// # Errors
    /// Where that does not happen.
    pub fn until_logged(&self, text: &str, before: usize) -> Result<()> {
        let lines = self.log.lines();
        let waited = self.log.more.wait_timeout_while(lines, PATIENCE, |lines| count(lines, text) <= before);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(count(&lines, text) > before, "the log does not say \"{text}\"");
        Ok(())
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its data directory as the process itself sees it.
    pub fn private_data(&self) -> PathBuf {
        let inside = self.data.strip_prefix("/").unwrap_or(&self.data);
        Path::new("/proc").join(self.pid().to_string()).join("root").join(inside)
    }

    /// A free place beside its data directory.
    ///
    /// # Panics
    /// Never: the directory lives as long as the server.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.as_ref().expect("kept until drop").path().join(name)
    }

    /// The address of an HTTP path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http_port)
    }

    /// The port for PostgreSQL clients.
    pub fn pg_port(&self) -> u16 {
        self.pg_port
    }

    /// What psql prints for these arguments.
    ///
    /// # Errors
    /// Where psql is missing or ends with an error; the text holds what it printed.
    pub fn psql(&self, args: &[&str]) -> Result<String> {
        let port = self.pg_port.to_string();
        let connect =
            ["--no-psqlrc", "--host", "127.0.0.1", "--port", &port, "--username", "anyone", "--dbname", "juno"];
        let output = Command::new("psql")
            .args(connect)
            .args(["--set", "ON_ERROR_STOP=1"])
            .args(args)
            .output()
            .context("psql")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "psql {args:?} ended with {}: {err}", output.status);
        Ok(format!("{out}{err}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The processes of a fleet outlive a server that is killed, and end with one that is stopped.
        if self.variables.iter().any(|(name, _)| name == "JUNO_FLEET") {
            let _ = self.stop();
        }
        let _ = self.kill();
    }
}
