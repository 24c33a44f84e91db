//! Small clients: SQL over the PostgreSQL protocol, HTTP with its status and body.
//!
//! **Invariant:** an answer is returned as it came; judging it is the test's work.

use juno_tests::Server;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header; empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Any HTTP request; every status is an answer.
pub(crate) fn http(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = headers
        .iter()
        .fold(ureq::http::Request::builder().method(method).uri(server.url(path)), |request, (name, value)| {
            request.header(*name, *value)
        });
    let mut response = agent.run(request.body(body).expect("a request")).expect("an answer");
    let headers = response.headers().clone();
    let body = response.body_mut().with_config().limit(256 << 20).read_to_vec().expect("a body");
    let mut answer = Answer { status: response.status().as_u16(), content_type: String::new(), headers, body };
    answer.content_type = answer.header("content-type").to_owned();
    answer
}

pub(crate) fn get(server: &Server, path: &str) -> Answer {
    http(server, "GET", path, &[], b"")
}

/// A connection through tokio-postgres, driven by a runtime of its own.
pub(crate) struct Postgres {
    runtime: Runtime,
    client: Client,
}

impl Postgres {
    pub(crate) fn connect(server: &Server) -> Postgres {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let config = format!("host=127.0.0.1 port={} user=anyone dbname=juno", server.pg_port());
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&config, NoTls)).expect("a connection");
        runtime.spawn(connection);
        Postgres { runtime, client }
    }

    /// Runs anything on the connection.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(work(&self.client))
    }

    /// The rows of a statement as text, `|` between columns and `NULL` for null.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        let messages =
            self.run(async |client| client.simple_query(sql).await).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join("|"),
            ),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The one value of a statement.
    pub(crate) fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql} gave {rows:?}");
        rows.into_iter().next().unwrap_or_default()
    }

    /// The SQLSTATE and the message that a statement fails with.
    pub(crate) fn error(&self, sql: &str) -> (String, String) {
        match self.run(async |client| client.simple_query(sql).await) {
            Ok(_) => panic!("{sql} did not fail"),
            Err(error) => {
                let error =
                    error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?} is no error of the database"));
                (error.code().code().to_owned(), error.message().to_owned())
            }
        }
    }
}
