//! Feeds over HTTP: what has changed, by its ETag.
//!
//! **Invariant:** an answer is bounded in time and in bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{ETAG, IF_NONE_MATCH};
use reqwest::{Client, StatusCode};

use super::feeds::FEED_BYTES_MAX;
use crate::answer::{body, told};

/// How long a connection may take, and a whole feed.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);

/// What was downloaded, by address.
#[derive(Default)]
pub(super) struct Downloads {
    client: Option<Client>,
    etags: BTreeMap<String, String>,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// It is what it was.
    Unchanged,
    /// It is another.
    Text { text: String, etag: Option<String> },
}

impl Downloads {
    /// Asks for a feed, unless it is what was kept of it.
    pub(super) async fn fetch(&mut self, url: &str) -> Result<Fetched, String> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = Client::builder().connect_timeout(CONNECT_LIMIT).timeout(LIMIT).build().map_err(told)?;
                self.client.insert(client).clone()
            }
        };
        let known = self.etags.get(url);
        let request = client.get(url);
        let request = match known {
            Some(etag) => request.header(IF_NONE_MATCH, etag),
            None => request,
        };
        let response = request.send().await.map_err(told)?;
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Fetched::Unchanged),
            StatusCode::OK => {}
            other => return Err(format!("it answers {other}")),
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let bytes = body(response, FEED_BYTES_MAX).await?;
        let text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
        Ok(Fetched::Text { text, etag })
    }

    /// Notes that a feed was loaded as it was answered.
    pub(super) fn keep(&mut self, url: String, etag: Option<String>) {
        match etag {
            Some(etag) => drop(self.etags.insert(url, etag)),
            None => drop(self.etags.remove(&url)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server of so many answers: those who know the ETag are told that nothing changed.
    async fn server(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.expect("a request"));
                }
                let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let answer = match request.contains("if-none-match: \"v1\"") {
                    true => "304 Not Modified\r\n",
                    false => answer,
                };
                stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.expect("an answer");
                if !answer.contains("\r\n\r\n") {
                    stream.write_all(b"Connection: close\r\nContent-Length: 0\r\n\r\n").await.expect("an answer");
                }
                stream.shutdown().await.expect("an end");
            }
        });
        format!("http://{address}/list.csv")
    }

    fn downloads() -> Downloads {
        Downloads { client: Some(Client::builder().no_proxy().build().expect("a client")), ..Downloads::default() }
    }

    #[tokio::test]
    async fn a_feed_is_read_again_when_its_etag_is_another() {
        let full = "200 OK\r\nETag: \"v1\"\r\nContent-Length: 12\r\nConnection: close\r\n\r\n203.0.113.7\n";
        let url = server(vec![full, full, full]).await;
        let mut downloads = downloads();
        let first = downloads.fetch(&url).await.expect("a feed");
        let expected = Fetched::Text { text: "203.0.113.7\n".into(), etag: Some("\"v1\"".into()) };
        assert_eq!(first, expected);
        assert_eq!(downloads.fetch(&url).await, Ok(expected), "what was not loaded is asked for again");
        downloads.keep(url.clone(), Some("\"v1\"".into()));
        assert_eq!(downloads.fetch(&url).await, Ok(Fetched::Unchanged));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_without_its_address() {
        let url =
            server(vec!["404 Not Found\r\n", "200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n\u{0}"]).await;
        let secret = format!("{url}?key=secret");
        let mut downloads = downloads();
        assert!(downloads.fetch(&secret).await.expect_err("no feed").contains("404"));
        assert!(matches!(downloads.fetch(&secret).await, Ok(Fetched::Text { etag: None, .. })));
        let gone = downloads.fetch(&secret).await.expect_err("nobody listens");
        assert!(!gone.contains("secret"), "{gone}");
    }
}
