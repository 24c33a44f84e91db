//! A disk that is full, that refuses, and whose bytes change: what a real process then says at its doors.
//!
//! **Invariant:** after each trouble exactly the acknowledged rows are there; the disk's refusals are the operating system's,
//! or those of a library that stands between juno and it.

use std::path::{Path, PathBuf};
use std::process::Command;

use juno_tests::Server;

use crate::client::{Postgres, get, http};
use crate::{name_program, skip};

/// Rows of one INSERT.
const ROWS: usize = 2_000;

fn insert(batch: usize) -> String {
    let rows = format!("SELECT {batch} * {ROWS} + n, 'text of row ' || n || ' in batch {batch}'");
    format!("INSERT INTO t {rows} FROM generate_series(0, {ROWS} - 1) AS s (n)")
}

/// The rows of these batches and nothing else.
fn holds(client: &Postgres, batches: usize) {
    let rows = batches * ROWS;
    let sum = rows * rows.saturating_sub(1) / 2;
    assert_eq!(client.value("SELECT count(*), coalesce(sum(id), 0) FROM t"), format!("{rows}|{sum}"));
}

#[test]
fn a_full_disk_refuses_writes_with_53100_and_takes_them_when_there_is_room() {
    name_program();
    let mounts = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    if !mounts.is_ok_and(|status| status.success()) {
        return skip("there is no unshare, so a full disk was not tried", "JUNO_REQUIRE_MOUNT");
    }
    let mut server = Server::prepare().expect("a directory");
    // What is written here must outlast the process, and the mount does not.
    let kept = server.scratch("kept");
    let mounted = format!(
        "mkdir -p \"$DATA\" {kept} && mount -t tmpfs -o size=4m none \"$DATA\" && cp -a {kept}/. \"$DATA\"",
        kept = kept.display()
    );
    server.before(&mounted);
    server.run().expect("a server");
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)");
    let ballast = server.private_data().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).expect("room for ballast");
    let mut batches = 0;
    while client.run(async |client| client.simple_query(&insert(batches)).await).is_ok() {
        batches += 1;
    }
    assert!(batches > 0, "the first rows find room");
    for _ in 0..2 {
        let (code, message) = client.error(&insert(batches));
        assert_eq!(code, "53100", "{message}");
        assert!(message.contains("the disk is full") && message.contains("free some space and try again"), "{message}");
    }
    let answer =
        http(&server, "POST", "/api/v4/query", &[], format!("{{\"sql\": \"{}\"}}", insert(batches)).as_bytes());
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (507, Some("/problems/disk-full")),
        "{}",
        answer.text()
    );
    holds(&client, batches);
    let filler = server.private_data().join("filler");
    assert!(std::fs::write(&filler, vec![1; 4 << 20]).is_err(), "no byte is left");
    let (code, message) = client.error("CALL flush()");
    assert_eq!(code, "53100", "{message}");
    let ready = get(&server, "/readyz");
    assert_eq!(ready.status, 503, "without room it is not ready: {}", ready.text());
    assert!(ready.text().contains("bytes are free on the disk"), "{}", ready.text());
    assert!(ready.text().contains("flushes fail"), "{}", ready.text());

    for file in [ballast, filler] {
        std::fs::remove_file(file).expect("it is there");
    }
    client.rows(&insert(batches));
    client.rows("CALL flush()");
    holds(&client, batches + 1);
    assert_eq!(get(&server, "/readyz").text(), "{\"status\":\"ready\"}");
    copy(&server.private_data(), &kept);
    server.kill().expect("it is dead");
    server.before(&format!("{mounted} && {{ head -c 8m /dev/zero > \"$DATA/filler\" 2> /dev/null || true; }}"));
    server.run().expect("it starts on a full disk");
    let client = Postgres::connect(&server);
    holds(&client, batches + 1);
    let (code, message) = client.error(&insert(batches + 1));
    assert_eq!(code, "53100", "{message}");
    std::fs::remove_file(server.private_data().join("filler")).expect("it is there");
    client.rows(&insert(batches + 1));
    holds(&client, batches + 2);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp");
    assert!(status.success());
}

/// The file of the newest part.
fn part(server: &Server) -> PathBuf {
    let names = std::fs::read_dir(server.data().join("parts")).expect("there are parts");
    names.map(|entry| entry.expect("a name").path()).max().expect("there is one")
}

#[test]
fn a_damaged_part_is_named_with_xx001_and_all_else_works() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    server.run().expect("a server");
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE whole (id BIGINT PRIMARY KEY); INSERT INTO whole VALUES (1), (2); CALL flush()");
    client.rows("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)");
    client.rows(&insert(0));
    client.rows("CALL flush()");
    assert_eq!(server.stop().expect("it runs"), Some(0));
    let file = part(&server);
    let spoil = || {
        let mut bytes = std::fs::read(&file).expect("a part");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("a part");
    };
    spoil();
    server.run().expect("damage in a part keeps nothing else from being used");
    let client = Postgres::connect(&server);
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    for sql in ["SELECT sum(id) FROM t", "SELECT * FROM t WHERE id = 7", "SELECT text, count(*) FROM t GROUP BY text"] {
        let (code, message) = client.error(sql);
        assert_eq!(code, "XX001", "{message}");
        assert!(message.contains(&name) && message.contains("is damaged at byte"), "{message}");
    }
    let answer = http(&server, "POST", "/api/v4/query", &[], br#"{"sql": "SELECT sum(id) FROM t"}"#);
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("data-corrupted") && answer.text().contains(&name), "{}", answer.text());
    assert_eq!(client.value("SELECT sum(id) FROM whole"), "3");
    client.rows("INSERT INTO whole VALUES (3)");
    assert_eq!(get(&server, "/readyz").status, 200);
    server.stop().expect("it runs");
    spoil();
    server.run().expect("it starts again");
    holds(&Postgres::connect(&server), 1);
}

/// A library that has the operating system refuse: fdatasync and fsync while a file called `refuse-sync` lies beside it, reads
/// of parts while one called `refuse-read` does.
const REFUSING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static int refused(const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("REFUSING"), what);
    return access(path, F_OK) == 0;
}
static int fail(void) { errno = EIO; return -1; }
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return refused("refuse-sync") ? fail() : real(fd);
}
ssize_t pread64(int fd, void *to, size_t len, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, sizeof path - 1);
    path[got < 0 ? 0 : got] = 0;
    return strstr(path, ".parquet") && refused("refuse-read") ? fail() : real(fd, to, len, at);
}
"#;

/// A server whose disk refuses on demand, and what to create for that; none where there is no compiler.
fn refusing() -> Option<(Server, PathBuf, PathBuf)> {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let (source, library) = (server.scratch("refusing.c"), server.scratch("refusing.so"));
    std::fs::write(&source, REFUSING).expect("a file");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip("there is no C compiler, so failing reads and syncs were not tried", "JUNO_REQUIRE_SHIM");
        return None;
    }
    server.set("LD_PRELOAD", &library.display().to_string());
    server.set("REFUSING", &server.scratch("").display().to_string());
    server.run().expect("a server");
    let (sync, read) = (server.scratch("refuse-sync"), server.scratch("refuse-read"));
    Some((server, sync, read))
}

#[test]
fn after_a_failed_fsync_the_database_is_read_only_until_it_starts_again_and_says_why() {
    let Some((mut server, refuse, _)) = refusing() else { return };
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)");
    client.rows(&insert(0));
    assert_eq!(client.value("SHOW transaction_read_only"), "off");
    std::fs::write(&refuse, "").expect("a file");
    for trouble in [true, false] {
        let (code, message) = client.error(&insert(1));
        assert_eq!(code, "25006", "{message}");
        assert!(message.contains("could not sync") && message.contains("start juno again"), "{message}");
        // That the disk works again later changes nothing: what it lost it does not tell.
        if trouble {
            std::fs::remove_file(&refuse).expect("it is there");
        }
    }
    holds(&client, 1);
    assert_eq!(client.value("SHOW transaction_read_only"), "on");
    let ready = get(&server, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("read-only") && ready.text().contains("could not sync"), "{}", ready.text());
    assert_eq!(get(&server, "/healthz").status, 200);
    assert!(get(&server, "/metrics").text().contains("juno_read_only 1"));
    let answer = http(&server, "POST", "/write", &[], b"cpu usage=1");
    assert_eq!(answer.status, 503, "{}", answer.text());
    server.kill().expect("it is dead");
    server.run().expect("it starts again");
    let client = Postgres::connect(&server);
    // The batch that was refused may be there whole, since it was written, or not at all.
    let batches = if client.value("SELECT count(*) FROM t") == ROWS.to_string() { 1 } else { 2 };
    holds(&client, batches);
    client.rows(&insert(batches));
    holds(&client, batches + 1);
    assert_eq!(get(&server, "/readyz").status, 200);
}

#[test]
fn a_read_that_the_disk_refuses_fails_with_58030_and_the_next_one_succeeds() {
    let Some((server, _, refuse)) = refusing() else { return };
    let client = Postgres::connect(&server);
    client.rows("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)");
    client.rows(&insert(0));
    client.rows("CALL flush()");
    std::fs::write(&refuse, "").expect("a file");
    for sql in ["SELECT sum(id) FROM t", "SELECT text, count(*) FROM t GROUP BY text ORDER BY text"] {
        let (code, message) = client.error(sql);
        assert_eq!(code, "58030", "{message}");
        assert!(message.contains(".parquet") && message.contains("Input/output error"), "{message}");
    }
    assert_eq!(get(&server, "/readyz").status, 200, "nothing is lost, and writes are taken");
    std::fs::remove_file(&refuse).expect("it is there");
    holds(&client, 1);
}
