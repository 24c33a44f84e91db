//! What the catalog tells clients: psql's backslash commands and the questions that others ask at connect.
//!
//! **Invariant:** a client that is missing is named loudly; with JUNO_REQUIRE_CLIENTS set, that is a failure.

use std::process::Command;

use juno_tests::Server;

use crate::client::Postgres;
use crate::{server, skip};

const DEVICE: &str =
    "CREATE TABLE device (id UUID PRIMARY KEY, name VARCHAR(50) NOT NULL, data JSONB, price DECIMAL(10,2) DEFAULT 0)";

fn with_device() -> Server {
    let server = server();
    Postgres::connect(&server).rows(DEVICE);
    server
}

/// The line of a printed table that starts with a word.
fn line<'a>(printed: &'a str, word: &str) -> &'a str {
    printed.lines().find(|line| line.trim_start().starts_with(word)).unwrap_or_default()
}

#[test]
fn psql_describes_keys_defaults_types_and_views() {
    if Command::new("psql").arg("--version").output().is_err() {
        skip("psql is not installed", "JUNO_REQUIRE_CLIENTS");
        return;
    }
    let server = with_device();
    let run = |command: &str| server.psql(&["-c", command]).unwrap_or_else(|error| panic!("{command}: {error}"));
    for command in [r"\d device", r"\d+ device"] {
        let printed = run(command);
        assert!(printed.contains("\"device_pkey\" PRIMARY KEY, btree (id)"), "{command}:\n{printed}");
        for (column, kind) in [("id", "uuid"), ("name", "character varying(50)"), ("data", "jsonb")] {
            assert!(line(&printed, column).contains(kind), "{command} says of {column}:\n{printed}");
        }
        assert!(line(&printed, "name").contains("not null"), "{command}:\n{printed}");
        let price = line(&printed, "price").split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(price[..5], ["price", "numeric(10,2)", "", "", "0"], "{command}:\n{printed}");
    }
    assert!(line(&run(r"\di"), "public | device_pkey").contains("device"));
    assert!(run(r"\dv").contains("operations_status"));
    assert!(run(r"\d+ operations_status").contains("View definition:"));
    assert!(run(r"\du").contains("postgres"));
    for command in [r"\df", r"\dn", r"\l", r"\dt", r"\d", r"\dx", r"\conninfo"] {
        run(command);
    }
}

/// Every command of psql 15 that asks the server.
const COMMANDS: &str = r"
    \d \d+ \dS \da \dA \dAc \dAf \dAo \dAp \db \db+ \dc \dC \dconfig \dconfig+ \dd \dD \ddp \dE \des \det \deu \dew \df \df+ \dfa
    \dfn \dfp \dft \dfw \dF \dFd \dFp \dFt \dg \dg+ \di \di+ \dl \dL \dL+ \dm \dm+ \dn \dn+ \do \dO \dp \dP \dPi \drds \dRp
    \dRs \ds \ds+ \dt \dt+ \dT \dT+ \dTS \du \du+ \dv \dv+ \dx \dx+ \dX \dy \l \l+ \z";

#[test]
fn every_backslash_command_of_psql_is_answered() {
    if Command::new("psql").arg("--version").output().is_err() {
        skip("psql is not installed", "JUNO_REQUIRE_CLIENTS");
        return;
    }
    let server = with_device();
    let run = |command: &str| server.psql(&["-c", command]).unwrap_or_else(|error| panic!("{command}: {error}"));
    for command in COMMANDS.split_whitespace() {
        run(command);
    }
    for command in [r"\d device_pkey", r"\sv operations_status", r"\df rate", r"\df+ time_bucket", r"\dt+ device"] {
        run(command);
    }
    let functions = run(r"\df");
    let rate = line(&functions, "public | rate");
    assert!(rate.contains("double precision") && rate.contains("agg"), "{functions}");
    assert!(line(&functions, "public | flush").contains("proc"), "{functions}");
    Postgres::connect(&server).rows("INSERT INTO device (id, name) VALUES (gen_random_uuid(), 'a')");
    assert!(line(&run(r"\dt+ device"), "public | device").contains("bytes"));
}

#[test]
fn information_schema_names_columns_and_keys_as_postgresql_does() {
    let server = with_device();
    let client = Postgres::connect(&server);
    let columns = client.rows(
        "SELECT column_name, data_type, udt_name, is_nullable, character_maximum_length, numeric_precision, column_default \
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'device' ORDER BY ordinal_position",
    );
    let expected = [
        "id|uuid|uuid|NO|NULL|NULL|NULL",
        "name|character varying|varchar|NO|50|NULL|NULL",
        "data|jsonb|jsonb|YES|NULL|NULL|NULL",
        "price|numeric|numeric|YES|NULL|10|0",
    ];
    assert_eq!(columns, expected);
    let keys = client.rows(
        "SELECT tc.constraint_name, kcu.column_name FROM information_schema.table_constraints tc \
         JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name \
         WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_name = 'device'",
    );
    assert_eq!(keys, ["device_pkey|id"]);
    let exists = client.rows("SELECT EXISTS (SELECT FROM information_schema.tables WHERE table_name = 'nosuch')");
    assert_eq!(exists, ["f"]);
}

#[test]
fn numbers_of_relations_join_the_catalog_together() {
    let server = with_device();
    let client = Postgres::connect(&server);
    let joined = client.rows(
        "SELECT c.relname, i.indisprimary, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid) FROM pg_class c \
         JOIN pg_index i ON i.indrelid = c.oid JOIN pg_constraint k ON k.conindid = i.indexrelid \
         WHERE c.oid = 'device'::regclass",
    );
    let index = "CREATE UNIQUE INDEX device_pkey ON public.device USING btree (id)";
    assert_eq!(joined, [format!("device|t|{index}|PRIMARY KEY (id)")]);
    let defaults = client.rows(
        "SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a \
         JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = 'device'::regclass",
    );
    assert_eq!(defaults, ["price|0"]);
    let indexes = client.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'device'");
    assert_eq!(indexes, ["device_pkey"]);
}
