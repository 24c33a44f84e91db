//! Check, backup and restore, of a running server and of a stopped one.
//!
//! **Invariant:** each test has a data directory of its own; what is damaged is damaged on purpose, byte by byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use juno_tests::{Server, juno};

use crate::client::Postgres;
use crate::{name_program, server};

/// The exit code, and all that was printed.
fn run(args: &[&str]) -> (Option<i32>, String) {
    name_program();
    let output = juno(args).output().expect("juno runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

fn check(data: &Path) -> (Option<i32>, String) {
    run(&["check", "--data", text(data)])
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// One value of a stopped database.
fn value(data: &Path, sql: &str) -> String {
    let (code, printed) = run(&["sql", "--data", text(data), "--format", "csv", sql]);
    assert_eq!(code, Some(0), "{printed}");
    printed.lines().nth(1).unwrap_or_default().to_owned()
}

/// Changes a byte of a file; again, and it is as it was.
fn flip(file: &Path, place: usize) {
    let mut bytes = std::fs::read(file).expect("a file");
    bytes[place] ^= 0x20;
    std::fs::write(file, bytes).expect("the same file");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Writes a row to each of two tables per transaction until it is told to stop.
fn write_until(server: &Server, stop: &Arc<AtomicBool>, written: &Arc<AtomicU64>) -> std::thread::JoinHandle<()> {
    let (client, stop, written) = (Postgres::connect(server), Arc::clone(stop), Arc::clone(written));
    std::thread::spawn(move || {
        for n in 1.. {
            client.rows(&format!(
                "BEGIN; INSERT INTO points VALUES (to_timestamp({n} * 600), 'host' || {n} % 3, {n}); \
                 INSERT INTO keyed VALUES ({n}, 'text' || {n}); COMMIT"
            ));
            written.store(n, Ordering::Release);
            if stop.load(Ordering::Acquire) {
                return;
            }
        }
    })
}

#[test]
fn a_backup_taken_while_rows_come_in_is_the_database_of_one_moment() {
    let mut server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE points (time TIMESTAMPTZ, host TEXT, n BIGINT)");
    client.rows("CREATE TABLE keyed (id INTEGER PRIMARY KEY, s TEXT)");
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = write_until(&server, &stop, &written);
    let mut taken = Vec::new();
    let reach = |rows: u64| {
        while written.load(Ordering::Acquire) < rows {
            std::thread::yield_now();
        }
    };
    reach(1);
    for round in 0..4 {
        let before = written.load(Ordering::Acquire);
        let answer = client.rows(&format!("CALL backup('round{round}')"));
        assert!(answer.len() == 1 && answer[0].contains("backup/round"), "{answer:?}");
        let after = written.load(Ordering::Acquire) + 1;
        taken.push((before, after));
        reach(after + 20);
        if round == 1 {
            client.rows("CALL compact()");
        }
    }
    stop.store(true, Ordering::Release);
    writer.join().expect("a writer");
    assert_eq!(server.stop().expect("it ran"), Some(0));
    for (round, (before, after)) in taken.into_iter().enumerate() {
        let from = server.data().join(format!("backup/round{round}"));
        let to = server.scratch(&format!("restored{round}"));
        assert_eq!(check(&from).0, Some(0));
        let (code, printed) = run(&["restore", "--from", text(&from), "--data", text(&to)]);
        assert_eq!(code, Some(0), "{printed}");
        assert_eq!(check(&to).0, Some(0));
        let count: u64 = value(&to, "SELECT count(*) FROM points").parse().expect("a number");
        assert!((before..=after).contains(&count), "{before} <= {count} <= {after}");
        let sum = count * (count + 1) / 2;
        assert_eq!(value(&to, "SELECT count(*) || ' ' || sum(n) FROM points"), format!("{count} {sum}"));
        assert_eq!(value(&to, "SELECT count(*) || ' ' || sum(id) FROM keyed"), format!("{count} {sum}"));
        value(&to, "INSERT INTO keyed VALUES (0, 'the copy goes its own way')");
    }
}

/// A data directory with rows in parts and, in two commits, in the log.
fn killed() -> Server {
    let mut server = server();
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE points (time TIMESTAMPTZ, host TEXT, n BIGINT)");
    client.rows("INSERT INTO points SELECT to_timestamp(n), 'h' || n % 3, n FROM generate_series(1, 5000) AS s (n)");
    client.rows("CALL flush()");
    client.rows("INSERT INTO points VALUES (to_timestamp(9000), 'h0', 9000)");
    client.rows("INSERT INTO points VALUES (to_timestamp(9001), 'h1', 9001)");
    server.kill().expect("it ran");
    server
}

#[test]
fn a_check_names_every_damaged_file_and_a_damaged_database_is_not_copied() {
    let server = killed();
    let data = server.data().to_owned();
    let (code, printed) = check(&data);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("table points: 1 parts, 5000 rows,") && printed.contains("no damage was found"),
        "{printed}"
    );
    let mut damaged = vec![data.join("CURRENT")];
    for dir in ["manifest", "log", "parts"] {
        let found = files(&data.join(dir));
        assert!(!found.is_empty(), "{dir}");
        damaged.extend(found);
    }
    for file in damaged {
        let place = if file.ends_with("CURRENT") { 4 } else { 44 };
        flip(&file, place);
        let (code, printed) = check(&data);
        assert_eq!(code, Some(1), "{}: {printed}", file.display());
        assert!(printed.contains(&format!("{}: at byte ", file.display())), "{}: {printed}", file.display());
        let to = server.scratch("copy");
        let (code, printed) = run(&["backup", "--data", text(&data), "--to", text(&to)]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(text(&file)) && !to.exists(), "{printed}");
        flip(&file, place);
    }
    let gone = files(&data.join("parts")).remove(0);
    std::fs::rename(&gone, server.scratch("away")).expect("a part");
    let (code, printed) = check(&data);
    assert!(code == Some(1) && printed.contains(text(&gone)), "{printed}");
    std::fs::rename(server.scratch("away"), &gone).expect("the part again");
    assert_eq!(check(&data).0, Some(0));
}

#[test]
fn a_stopped_database_is_copied_with_what_its_log_holds() {
    let server = killed();
    let (data, to) = (server.data().to_owned(), server.scratch("copy"));
    let (code, printed) = run(&["backup", "--data", text(&data), "--to", text(&to)]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("backed up "), "{printed}");
    assert_eq!(value(&to, "SELECT count(*) || ' ' || max(n) FROM points"), "5002 9001");
    let (code, printed) = run(&["backup", "--data", text(&data), "--to", text(&to)]);
    assert!(code == Some(1) && printed.contains("name a new directory"), "{printed}");
    let (code, printed) = run(&["restore", "--from", text(&server.scratch("nothing")), "--data", text(&to)]);
    assert!(code == Some(1) && printed.contains("nothing"), "{printed}");
    assert_eq!(run(&["restore", "--from", text(&data)]).0, Some(2), "it must be told where to");
}

#[test]
fn a_running_server_keeps_others_away_and_checks_and_copies_itself() {
    let server = server();
    let (data, client) = (server.data().to_owned(), Postgres::connect(&server));
    client.rows("CREATE TABLE points (time TIMESTAMPTZ, n BIGINT)");
    client.rows("INSERT INTO points VALUES (to_timestamp(1), 1)");
    client.rows("CALL flush(); INSERT INTO points VALUES (to_timestamp(2), 2)");
    let (code, printed) = check(&data);
    assert!(
        code == Some(1) && printed.contains("open in another juno") && printed.contains("CALL check()"),
        "{printed}"
    );
    let (code, printed) = run(&["backup", "--data", text(&data), "--to", text(&server.scratch("x"))]);
    assert!(code == Some(1) && printed.contains("CALL backup('"), "{printed}");

    let whole = client.rows("CALL check()");
    assert!(whole.iter().all(|row| row.ends_with("|NULL")), "{whole:?}");
    assert!(whole.iter().any(|row| row.starts_with("table points|1|1|")), "{whole:?}");
    for (sql, code) in [
        ("CALL backup()", "22023"),
        ("CALL backup('../x')", "22023"),
        (&format!("CALL backup('{}/parts/x')", data.display()) as &str, "22023"),
        ("CALL check('x')", "42883"),
    ] {
        assert_eq!(client.error(sql).0, code, "{sql}");
    }
    let elsewhere = server.scratch("elsewhere");
    client.rows(&format!("CALL backup('{}')", elsewhere.display()));
    let (code, message) = client.error(&format!("CALL backup('{}')", elsewhere.display()));
    assert!(code == "58P01" && message.contains("name a new directory"), "{code} {message}");
    assert_eq!(value(&elsewhere, "SELECT sum(n) FROM points"), "3");

    client.rows("CALL flush()");
    let part = files(&data.join("parts")).remove(0);
    flip(&part, 60);
    let damaged: Vec<String> = client.rows("CALL check()").into_iter().filter(|row| !row.ends_with("|NULL")).collect();
    assert!(damaged.len() == 1 && damaged[0].contains(text(&part)), "{damaged:?}");
    assert_eq!(client.error("CALL backup('damaged')").0, "XX001");
}

#[test]
fn parts_in_a_bucket_are_checked_and_copied_there() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let bucket = server.scratch("bucket");
    std::fs::create_dir(&bucket).expect("a directory");
    let url = format!("file://{}", bucket.display());
    server.set("JUNO_OBJECT_STORE", &url);
    server.run().expect("a server");
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE points (time TIMESTAMPTZ, n BIGINT)");
    client.rows("INSERT INTO points VALUES (to_timestamp(1), 1)");
    assert_eq!(server.stop().expect("it ran"), Some(0));
    let (data, to) = (server.data().to_owned(), server.scratch("copy"));
    let (code, printed) = check(&data);
    assert!(code == Some(1) && printed.contains("name it with --object-store"), "{printed}");
    let (code, printed) = run(&["check", "--data", text(&data), "--object-store", &url]);
    assert!(code == Some(0) && printed.contains("table points: 1 parts, 1 rows"), "{printed}");
    let (code, printed) = run(&["backup", "--data", text(&data), "--object-store", &url, "--to", text(&to)]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(value(&to, "SELECT sum(n) FROM points"), "1");
    let object = files(&bucket).into_iter().find(|file| file.extension().is_some()).expect("a part");
    flip(&object, 30);
    let (code, printed) = run(&["check", "--data", text(&data), "--object-store", &url]);
    let name = object.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(code == Some(1) && printed.contains(&format!("{url}/{name}: at byte 0")), "{printed}");
}
