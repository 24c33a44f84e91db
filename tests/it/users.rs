//! Users, roles and TLS: who is let in by both doors, and what each may do.
//!
//! **Invariant:** the certificate of `tests/fixtures/tls` is for these tests alone; its key is public.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use juno_tests::{Server, juno};

use crate::client::{Postgres, get, http};
use crate::drivers::{has_psql, python};
use crate::name_program;

/// A stopped server with the admin `root`.
fn with_admin() -> Server {
    name_program();
    let server = Server::prepare().expect("a directory");
    add(&server, "root", "admin", "top secret").expect("the first admin");
    server
}

fn add(server: &Server, name: &str, role: &str, password: &str) -> Result<(), String> {
    let data = server.data().display().to_string();
    let mut child = juno(&["user", "add", name, "--role", role, "--data", &data])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("juno user add");
    child.stdin.take().expect("piped").write_all(format!("{password}\n").as_bytes()).expect("a password");
    let output = child.wait_with_output().expect("an end");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What psql prints for a user, or what it complains of.
fn psql(server: &Server, user: &str, password: &str, sql: &str) -> Result<String, String> {
    let password = password.replace('\'', r"\'");
    let target = format!("user={user} password='{password}' dbname=juno");
    let printed = server.psql(&["-At", "-d", &target, "-c", r"\set VERBOSITY verbose", "-c", sql]);
    printed.map_err(|error| format!("{error:#}"))
}

fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let plain = format!("{user}:{password}");
    let mut out = String::from("Basic ");
    for three in plain.as_bytes().chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}

#[test]
fn only_those_who_know_a_password_are_let_in_and_each_may_do_what_the_role_says() {
    if !has_psql() {
        return;
    }
    let mut server = with_admin();
    server.run().expect("a server");
    let root = |sql: &str| psql(&server, "root", "top secret", sql);
    root("CREATE TABLE t (id INTEGER PRIMARY KEY, v DOUBLE PRECISION)").expect("an admin defines");
    root("CREATE USER ada WITH LOGIN PASSWORD 'lovelace' IN ROLE operator").expect("a user");
    root("CREATE USER eve PASSWORD 'snake''s'; GRANT viewer TO eve").expect("two statements");
    root("CREATE ROLE batch PASSWORD 'x' IN ROLE operator").expect("a role");
    assert!(psql(&server, "ada", "wrong", "SELECT 1").unwrap_err().contains("password authentication failed"));
    assert!(psql(&server, "nobody", "x", "SELECT 1").unwrap_err().contains("password authentication failed"));
    assert!(psql(&server, "batch", "x", "SELECT 1").unwrap_err().contains("not permitted to log in"));
    let ada = |sql: &str| psql(&server, "ada", "lovelace", sql);
    let eve = |sql: &str| psql(&server, "eve", "snake's", sql);
    assert_eq!(ada("SELECT current_user, session_user").expect("names").trim(), "ada|ada");
    assert!(ada("INSERT INTO t VALUES (1, 2)").expect("an operator writes").contains("INSERT 0 1"));
    assert!(ada("CALL flush()").is_ok());
    assert_eq!(eve("SELECT v FROM t").expect("a viewer reads").trim(), "2");
    for (user, sql) in [
        (&eve as &dyn Fn(&str) -> Result<String, String>, "INSERT INTO t VALUES (2, 3)"),
        (&eve, "COPY t FROM STDIN"),
        (&eve, "CALL flush()"),
        (&eve, "COPY t TO 'x.csv'"),
        (&ada, "COPY t TO 'x.csv'"),
        (&ada, "CALL check()"),
        (&ada, "CALL backup('x')"),
        (&ada, "CREATE TABLE u (id INTEGER PRIMARY KEY)"),
        (&ada, "DROP TABLE t"),
        (&ada, "CREATE USER mallory PASSWORD 'x' IN ROLE admin"),
        (&ada, "GRANT admin TO ada"),
        (&ada, "SELECT verifier FROM juno_users"),
        (&ada, "SELECT * FROM t WHERE id IN (SELECT length(verifier) FROM juno_users)"),
        (&ada, "DELETE FROM juno_migrations"),
        (&root, "UPDATE juno_users SET roles = 'admin'"),
    ] {
        assert!(user(sql).unwrap_err().contains("42501"), "{sql}");
    }
    assert!(!root("SELECT verifier FROM juno_users").expect("an admin reads").contains("lovelace"));
    ada("ALTER USER ada PASSWORD 'countess'").expect("one's own password");
    assert!(ada("SELECT 1").is_err() && psql(&server, "ada", "countess", "SELECT 1").is_ok());
    assert!(root("REVOKE admin FROM root").unwrap_err().contains("55006"));
    assert!(root("DROP USER root").unwrap_err().contains("55006"));
    root("DROP USER eve").expect("a user goes");
    assert!(eve("SELECT 1").is_err());
    server.kill().expect("a crash");
    server.run().expect("a server");
    assert!(
        psql(&server, "ada", "countess", "SELECT 1").is_ok() && psql(&server, "root", "top secret", "SELECT 1").is_ok()
    );
}

#[test]
fn http_wants_a_password_or_a_token_and_probes_want_none() {
    let mut server = with_admin();
    let hash = "1df5d0ff5e9ed03bf3f8a17d9a3dd2c7c6fa4f3f8d6ea4b1a34b22c3fdbb2f2d";
    let tokens = server.scratch("tokens");
    std::fs::write(&tokens, format!("# none fits this hash\nother admin {hash}\ngrafana viewer {}\n", TOKEN_SHA256))
        .expect("a file");
    server.set("JUNO_AUTH_TOKENS_FILE", &tokens.display().to_string());
    server.run().expect("a server");
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/api/v4/operations/status", 401)] {
        assert_eq!(get(&server, path).status, status, "{path}");
    }
    let asked = get(&server, "/metrics");
    assert!(asked.header("www-authenticate").starts_with("Basic realm="), "{asked:?}");
    let query = |authorization: &str, sql: &str| {
        let body = serde_json::json!({ "sql": sql }).to_string();
        http(&server, "POST", "/api/v4/query", &[("authorization", authorization)], body.as_bytes())
    };
    let root = basic("root", "top secret");
    for _ in 0..2 {
        assert_eq!(query(&root, "SELECT current_user").json()["rows"][0][0], "root");
    }
    for wrong in
        [basic("root", "top"), basic("nobody", "x"), "Bearer nothing".into(), "Digest x".into(), "Basic ?".into()]
    {
        assert_eq!(query(&wrong, "SELECT 1").status, 401, "{wrong}");
    }
    let token = format!("Bearer {TOKEN}");
    assert_eq!(query(&token, "SELECT current_user").json()["rows"][0][0], "grafana");
    let refused = query(&token, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    assert_eq!((refused.status, refused.json()["sqlstate"].as_str()), (403, Some("42501")));
    let write = |authorization: &str| {
        http(&server, "POST", "/write", &[("authorization", authorization)], b"cpu,host=a usage=1").status
    };
    assert_eq!((write(&token), write(&root)), (403, 204));
}

const TOKEN: &str = "open sesame";
const TOKEN_SHA256: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

#[test]
fn tls_holds_for_both_doors_and_other_machines_need_users() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let certificate = tls.join("certificate.pem").display().to_string();
    let mut server = with_admin();
    server.set("JUNO_TLS_CERT", &certificate);
    server.set("JUNO_TLS_KEY", &tls.join("key.pem").display().to_string());
    server.run().expect("a server");
    if has_psql() {
        let target = |more: &str| format!("host=localhost user=root password='top secret' dbname=juno {more}");
        let full = target(&format!("sslmode=verify-full sslrootcert={certificate}"));
        let printed = server.psql(&["-d", &full, "-c", r"\conninfo", "-At", "-c", "SELECT 1"]).expect("TLS");
        assert!(printed.contains("TLSv1.3"), "{printed}");
        assert!(
            server.psql(&["-d", &target("sslmode=disable"), "-c", "SELECT 1"]).is_ok(),
            "this machine may do without"
        );
    }
    if let Some(python) = python("ssl") {
        let script = "import ssl, sys, urllib.request\n\
                      context = ssl.create_default_context(cafile=sys.argv[1])\n\
                      print(urllib.request.urlopen(sys.argv[2], context=context).status)";
        let url = server.url("/healthz").replace("http://127.0.0.1", "https://localhost");
        let output = Command::new(python).args(["-c", script, &certificate, &url]).output().expect("python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn authentication_that_is_off_lets_this_machine_in_and_listens_to_no_other() {
    let mut server = with_admin();
    let data = server.data().display().to_string();
    for (door, other) in [("--pg-addr", "--http-addr"), ("--http-addr", "--pg-addr")] {
        let arguments = ["serve", "--data", &data, "--auth", "off", door, "0.0.0.0:0", other, "127.0.0.1:0"];
        let output = juno(&arguments).output().expect("juno");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("JUNO_AUTH") && text.contains(door), "{text}");
    }
    server.run().expect("a server");
    assert_eq!(get(&server, "/metrics").status, 401, "it is on unless it is said to be off");
    server.stop().expect("an end");
    server.set("JUNO_AUTH", "off");
    server.run().expect("a server");
    assert_eq!(get(&server, "/metrics").status, 200);
    assert_eq!(http(&server, "GET", "/metrics", &[("authorization", "Bearer nothing")], b"").status, 200);
    assert_eq!(Postgres::connect(&server).value("SELECT current_user"), "anyone");
    let config = get(&server, "/api/v4/operations/config").json();
    let all = config["items"].as_array().expect("settings").clone();
    let auth = all.into_iter().find(|item| item["id"] == "auth").expect("it is shown");
    assert_eq!(auth["value"], "off");
    assert_eq!(auth["source"], "environment JUNO_AUTH");
}

#[test]
fn an_address_of_other_machines_is_refused_until_there_are_users() {
    name_program();
    let mut server = Server::prepare().expect("a directory");
    let data = server.data().display().to_string();
    for (door, other) in [("--pg-addr", "--http-addr"), ("--http-addr", "--pg-addr")] {
        let output = juno(&["serve", "--data", &data, door, "0.0.0.0:0", other, "127.0.0.1:0"]).output().expect("juno");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(door) && text.contains("juno user add"), "{text}");
    }
    assert!(add(&server, "ada", "viewer", "x").unwrap_err().contains("must be an admin"));
    assert!(add(&server, "ada", "boss", "x").unwrap_err().contains("viewer, operator"));
    assert!(add(&server, "ada", "admin", "").unwrap_err().contains("password"));
    server.set("JUNO_ADMIN_PASSWORD", "from the environment");
    server.run().expect("a server");
    let admin = basic("juno", "from the environment");
    assert_eq!(http(&server, "GET", "/metrics", &[("authorization", &admin)], b"").status, 200);
    server.stop().expect("an end");
    let trusted = crate::server();
    assert_eq!(get(&trusted, "/metrics").status, 200, "without users this machine is trusted");
}
