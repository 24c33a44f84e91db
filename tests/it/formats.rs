//! Data directories that earlier versions wrote, and one of today's formats, each opened by today's juno.
//!
//! `fixtures/NAME` holds the statements that were run (`write.sql`), the files that the server left when it was killed (`data`), and
//! what that server itself answered just before (`rows.txt`). `data-v1` is of juno as it was before parts held decimals as integers,
//! compaction, block aggregates, late tags and users; `data-v2` has all of these. A new fixture is made, before a format changes, by
//! `JUNO_FIXTURE=data-v3 cargo test --workspace --test it -- --ignored write_a_fixture` from a new `write.sql`;
//! `JUNO_FIXTURE_PROGRAM` may name the binary of another version.
//!
//! **Invariant:** a fixture is never changed; its files are copied before they are opened.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use juno_tests::{Server, juno};

use crate::client::{Postgres, http};
use crate::name_program;

/// Lines of a script that are not SQL but line protocol begin so.
const LINES: &str = "/write ";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// All rows of all tables as text, and what is worked out of them without reading rows.
fn rows(client: &Postgres) -> String {
    let mut all = String::new();
    let tables = client.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY 1",
    );
    let mut list = |name: &str, sql: &str| {
        writeln!(all, "== {name}").expect("memory");
        client.rows(sql).iter().for_each(|row| writeln!(all, "{row}").expect("memory"));
    };
    // The directories are older than the last one.
    let is_of_then = |table: &&String| !table.starts_with("juno_") && *table != "rl_experience";
    for table in tables.iter().filter(is_of_then) {
        let columns = client.rows(&format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{table}' \
             ORDER BY column_name"
        ));
        let columns = columns.join(", ");
        list(&format!("{table} ({columns})"), &format!("SELECT {columns} FROM {table} ORDER BY {columns}"));
    }
    list(
        "hours",
        "SELECT date_trunc('hour', time) AS hour, site, count(*), count(temperature), min(pulses), max(pulses) FROM readings \
         GROUP BY 1, 2 ORDER BY 1, 2",
    );
    list(
        "newest",
        "SELECT DISTINCT ON (site, device) site, device, time FROM readings ORDER BY site, device, time DESC",
    );
    all
}

fn compare(client: &Postgres, wanted: &str, when: &str) {
    let found = rows(client);
    let first = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(first.is_none() && found.len() == wanted.len(), "{when}: {first:?}");
}

fn opens(name: &str) -> Server {
    name_program();
    let wanted = std::fs::read_to_string(fixture(name).join("rows.txt")).expect("what was there");
    let mut server = Server::prepare().expect("a directory");
    copy(&fixture(name).join("data"), server.data());
    let check = |server: &Server| {
        let output = juno(&["check", "--data", &server.data().display().to_string()]).output().expect("juno runs");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    check(&server);
    server.run().expect("a server");
    compare(&Postgres::connect(&server), &wanted, "opened");
    server.kill().expect("it ran");
    server.run().expect("a server");
    let client = Postgres::connect(&server);
    compare(&client, &wanted, "opened again after a kill");
    client.rows("CALL flush()");
    compare(&client, &wanted, "flushed");
    client.rows("CALL compact()");
    compare(&client, &wanted, "compacted");
    assert_eq!(server.stop().expect("it ran"), Some(0));
    check(&server);
    server.run().expect("a server");
    compare(&Postgres::connect(&server), &wanted, "opened once more");
    server
}

#[test]
fn a_data_directory_of_version_1_opens_with_all_its_rows() {
    opens("data-v1");
}

#[test]
fn a_data_directory_of_version_2_opens_with_all_its_rows() {
    let server = opens("data-v2");
    let client = Postgres::connect(&server);
    assert_eq!(client.rows("SELECT * FROM hot WHERE site = 's9'"), ["s9|1.5"]);
    assert_eq!(client.value("INSERT INTO every_type (id) VALUES (9) RETURNING q"), "43");
}

#[test]
#[ignore = "writes files into the source tree, for a format that changes"]
fn write_a_fixture() {
    match std::env::var_os("JUNO_FIXTURE_PROGRAM") {
        Some(program) => juno_tests::use_program(program),
        None => name_program(),
    }
    let place = fixture(&std::env::var("JUNO_FIXTURE").expect("the name of a folder in tests/fixtures"));
    let script = std::fs::read_to_string(place.join("write.sql")).expect("a script");
    let mut server = Server::prepare().expect("a directory");
    server.run().expect("a server");
    let client = Postgres::connect(&server);
    for line in script.lines() {
        match line.strip_prefix(LINES) {
            Some(lines) => assert_eq!(http(&server, "POST", "/write", &[], lines.as_bytes()).status, 204, "{lines}"),
            None => drop(client.rows(line)),
        }
    }
    std::fs::write(place.join("rows.txt"), rows(&client)).expect("a file");
    server.kill().expect("it ran");
    copy(server.data(), &place.join("data"));
    std::fs::remove_file(place.join("data/LOCK")).expect("the lock file");
}
