//! The beginning of a connection: encryption requests, CancelRequest, StartupMessage and what the client is greeted with.
//!
//! **Invariant:** who the client is, is found out elsewhere; a connection that began encrypted stays so or ends.

use bytes::{Buf, BytesMut};
use juno_sql::{Error, Session};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, GssEncRequest, NegotiateProtocolVersion, ParameterStatus, SslRequest, Startup,
};
use pgwire::messages::{DecodeContext, Message, PgWireBackendMessage, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::backends::Backend;
use super::report::Report;
use super::socket::{Socket, Stop};

/// Encryption requests before the startup message; a client sends at most one of each kind.
const ENCRYPTION_REQUESTS_MAX: usize = 4;
/// The newest protocol that is spoken, minor number of version 3.
const NEWEST_MINOR: u16 = 2;

/// What the server says of itself, where the session has no setting of the name.
const REPORTED: [(&str, &str); 12] = [
    ("server_version", concat!("16.6 (juno ", env!("CARGO_PKG_VERSION"), ")")),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("application_name", ""),
    ("is_superuser", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
];

/// What a client came for.
pub(super) enum Opening {
    Start(Startup),
    Cancel(CancelRequest),
    Left,
}

/// Answers requests for encryption, which come before all else: TLS where there is a certificate. A handshake that fails ends the
/// connection.
pub(super) async fn secured(mut stream: TcpStream, tls: Option<&TlsAcceptor>) -> Result<Socket, Stop> {
    for _ in 0..ENCRYPTION_REQUESTS_MAX {
        // Every first packet has at least these bytes, and a request has no others: nothing unencrypted is read ahead.
        let mut packet = [0; 8];
        stream.read_exact(&mut packet).await?;
        let (length, code) = ((&packet[..4]).get_u32(), (&packet[4..]).get_i32());
        match (length, code, tls) {
            (8, SslRequest::BODY_MAGIC_NUMBER, Some(tls)) => {
                stream.write_all(b"S").await?;
                return Ok(Socket::encrypted(tls.accept(stream).await?));
            }
            (8, SslRequest::BODY_MAGIC_NUMBER | GssEncRequest::BODY_MAGIC_NUMBER, _) => stream.write_all(b"N").await?,
            _ => return Ok(Socket::plain(stream, &packet)),
        }
    }
    Err(Stop::Gone)
}

/// Reads up to the startup message or cancel request. What asks for encryption once more is declined.
pub(super) async fn open(socket: &mut Socket) -> Result<Opening, Stop> {
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        let Some(mut packet) = socket.startup_packet().await? else { return Ok(Opening::Left) };
        match (&packet[4..8]).get_i32() {
            SslRequest::BODY_MAGIC_NUMBER | GssEncRequest::BODY_MAGIC_NUMBER => {
                socket.put_bytes(b"N").await?;
                socket.flush().await?;
            }
            _ if CancelRequest::is_cancel_request_packet(&packet) => {
                // Protocol 3.2's reading takes secrets of any length.
                let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
                return match CancelRequest::decode(&mut packet, &context) {
                    Ok(Some(request)) => Ok(Opening::Cancel(request)),
                    _ => Ok(Opening::Left),
                };
            }
            _ => return start(packet).map(Opening::Start),
        }
    }
    Err(Stop::Fatal(Report::fatal("08P01", "too many encryption requests")))
}

fn start(mut packet: BytesMut) -> Result<Startup, Stop> {
    let (major, minor) = ((&packet[4..6]).get_u16(), (&packet[6..8]).get_u16());
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}");
        return Err(Stop::Fatal(Report::fatal("0A000", message)));
    }
    match Startup::decode(&mut packet, &DecodeContext::new(ProtocolVersion::PROTOCOL3_0)) {
        Ok(Some(startup)) => Ok(startup),
        _ => Err(Stop::Fatal(Report::fatal("08P01", "invalid startup packet layout"))),
    }
}

/// True where the client speaks protocol 3.2, whose secrets are longer.
pub(super) fn takes_long_keys(startup: &Startup) -> bool {
    startup.protocol_number_minor >= NEWEST_MINOR
}

/// Applies the settings of the startup message to the session.
pub(super) fn apply(startup: &Startup, session: &Session) -> Result<(), Stop> {
    let fatal = |error: Error| Stop::Fatal(Report::fatal(crate::error::sqlstate(&error), error.to_string()));
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" => {}
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => return Err(Stop::Fatal(Report::fatal("0A000", "replication is not supported"))),
            "options" => {
                for (name, value) in options(value) {
                    session.set(&name, &value).map_err(fatal)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            // Drivers send these unasked, from their machine's locale. Where the session cannot follow, ParameterStatus
            // tells what holds, and the driver converts.
            name if name.eq_ignore_ascii_case("TimeZone") || name.eq_ignore_ascii_case("client_encoding") => {
                if let Err(refused) = session.set(name, value) {
                    tracing::debug!(name, value, %refused, "a client's setting was not taken over");
                }
            }
            name => session.set(name, value).map_err(fatal)?,
        }
    }
    Ok(())
}

/// The settings in a command line such as `-c TimeZone=UTC --work_mem=4MB`; a backslash keeps the character after it.
fn options(line: &str) -> Vec<(String, String)> {
    let (mut words, mut word, mut characters) = (Vec::new(), String::new(), line.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            space if space.is_whitespace() => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    let setting = |word: &String| {
        let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        let (name, value) = word.split_once('=')?;
        Some((name.replace('-', "_"), value.to_owned()))
    };
    words.iter().filter_map(setting).collect()
}

/// Puts everything from AuthenticationOk to BackendKeyData into the output.
pub(super) fn greet(socket: &mut Socket, startup: &Startup, settings: &[(&'static str, String)], backend: &Backend) {
    let unknown: Vec<String> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if startup.protocol_number_minor > NEWEST_MINOR || !unknown.is_empty() {
        // The whole version number stands here, whatever the field is called.
        let minor = i32::from(startup.protocol_number_minor.min(NEWEST_MINOR));
        let negotiate = NegotiateProtocolVersion::new(3 << 16 | minor, unknown);
        socket.put(PgWireBackendMessage::NegotiateProtocolVersion(negotiate));
    }
    socket.put(PgWireBackendMessage::Authentication(Authentication::Ok));
    for (name, value) in settings {
        report_setting(socket, name, value);
    }
    let user = startup.parameters.get("user").map_or("", String::as_str);
    report_setting(socket, "session_authorization", user);
    let key = BackendKeyData::new(backend.id(), backend.secret());
    socket.put(PgWireBackendMessage::BackendKeyData(key));
}

/// Tells the client a setting's value.
pub(super) fn report_setting(socket: &mut Socket, name: &str, value: &str) {
    socket.put(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value.to_owned())));
}

/// The settings that clients are told of, and told again when they change.
pub(super) fn reported(session: &Session) -> Vec<(&'static str, String)> {
    let value =
        |(name, fallback): (&'static str, &str)| (name, session.setting(name).unwrap_or_else(|| fallback.to_owned()));
    REPORTED.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_like_a_command_line() {
        let wanted = [("TimeZone", "Asia/Kolkata"), ("statement_timeout", "5s"), ("application_name", "a b")];
        let line = "-c TimeZone=Asia/Kolkata --statement-timeout=5s -capplication_name=a\\ b -x";
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options(line), wanted);
    }

    #[test]
    fn another_major_protocol_is_refused() {
        let old = BytesMut::from(&b"\0\0\0\x09\0\x02\0\0\0"[..]);
        assert!(matches!(start(old), Err(Stop::Fatal(report)) if report.code() == "0A000"));
        let cut = BytesMut::from(&b"\0\0\0\x08\0\x03\0\0"[..]);
        assert!(matches!(start(cut), Err(Stop::Fatal(report)) if report.code() == "08P01"));
    }
}
