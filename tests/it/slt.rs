//! The sqllogictest files of tests/slt, run over the PostgreSQL protocol. Those in `postgresql` say what PostgreSQL answers, and a
//! PostgreSQL that is at hand is asked too.
//!
//! **Invariant:** a file states statements and what they answer; here they are only run.

use std::path::{Path, PathBuf};

use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{server, skip};

struct Wire(Client);

#[derive(Debug, thiserror::Error)]
#[error("({}) {}", .0.code().map_or("-----", |code| code.code()), .0.as_db_error().map_or("no answer", |error| error.message()))]
struct Failed(tokio_postgres::Error);

#[async_trait::async_trait]
impl AsyncDB for Wire {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failed> {
        let mut rows = Vec::new();
        let mut columns = 0;
        let mut complete = 0;
        for message in self.0.simple_query(sql).await.map_err(Failed)? {
            match message {
                SimpleQueryMessage::RowDescription(described) => columns = described.len(),
                SimpleQueryMessage::Row(row) => rows.push(
                    (0..row.len())
                        .map(|column| match row.get(column) {
                            None => "NULL".to_owned(),
                            Some("") => "(empty)".to_owned(),
                            Some(text) => text.to_owned(),
                        })
                        .collect(),
                ),
                SimpleQueryMessage::CommandComplete(count) => complete = count,
                _ => {}
            }
        }
        if columns == 0 {
            return Ok(DBOutput::StatementComplete(complete));
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text; columns], rows })
    }

    async fn shutdown(&mut self) {}
}

/// The database that the files of `postgresql` are checked against where there is one: a connection string.
const POSTGRES: &str = "JUNO_TEST_POSTGRES";

#[test]
fn every_slt_file_holds() {
    let server = server();
    let config = format!("host=127.0.0.1 port={} user=anyone dbname=juno", server.pg_port());
    run(&config, &[files("slt"), files("slt/postgresql")].concat());
}

/// `JUNO_TEST_POSTGRES='host=127.0.0.1 user=postgres dbname=postgres' cargo test --test it -- postgresql_itself`.
#[test]
fn postgresql_itself_answers_as_its_files_say() {
    match std::env::var(POSTGRES) {
        Ok(config) => run(&config, &files("slt/postgresql")),
        Err(_) => skip("PostgreSQL was not asked itself: JUNO_TEST_POSTGRES names none", "JUNO_REQUIRE_POSTGRES"),
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    // One topic alone: JUNO_SLT=transactions.
    if let Ok(only) = std::env::var("JUNO_SLT") {
        files.retain(|file| file.file_stem().is_some_and(|stem| stem.to_string_lossy().contains(&only)));
    }
    files
}

fn run(config: &str, files: &[PathBuf]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for file in files {
        let mut runner = sqllogictest::Runner::new(move || async move {
            let (client, connection) = tokio_postgres::connect(config, NoTls).await.map_err(Failed)?;
            tokio::spawn(connection);
            Ok(Wire(client))
        });
        let script = std::fs::read_to_string(file).expect("UTF-8");
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let records =
            sqllogictest::parse::<DefaultColumnType>(&script).unwrap_or_else(|error| panic!("{name}: {error}"));
        runtime.block_on(async {
            for record in records {
                runner.run_async(record).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        });
    }
}
