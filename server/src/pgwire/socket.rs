//! The client's socket: whole messages in, bytes out, and an eye on whether the client is still there.
//!
//! **Invariant:** nothing is buffered beyond the limits below, and no bytes make a decoder panic: a message's structure
//! is checked before it is decoded.

use std::future::Future;
use std::io::{self, IoSlice};

use bytes::{Buf, BufMut, BytesMut};
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::report::Report;
use crate::serve::SILENCE_MAX;

/// The longest message that is taken, in bytes: statements, Bind with its parameters.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The longest message before the connection is set up, in bytes (PostgreSQL's own limit).
const STARTUP_BYTES_MAX: usize = 10_000;
/// The longest of the short messages (Execute, Sync, …), in bytes.
const SHORT_BYTES_MAX: usize = 10_000;
/// Input that is read ahead while a statement runs, in bytes; beyond it the client waits.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// Output is sent as soon as this many bytes are waiting.
const OUTPUT_BYTES: usize = 32 * 1024;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is gone; nobody can be told.
    Gone,
    /// The client is told why and the connection is closed.
    Fatal(Report),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Stop {
        Stop::Gone
    }
}

/// A message as it came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) message: PgWireFrontendMessage,
    /// False where a text in it is not UTF-8: then it was read with replacement characters and must be refused.
    pub(super) utf8: bool,
}

/// One client's socket.
pub(super) struct Socket {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    encrypted: bool,
    input: BytesMut,
    output: BytesMut,
}

impl Socket {
    /// A connection of which the first bytes were read already.
    pub(super) fn plain(stream: TcpStream, begun: &[u8]) -> Socket {
        let (reader, writer) = stream.into_split();
        Socket { input: BytesMut::from(begun), ..Socket::over(reader, writer, false) }
    }

    /// An encrypted connection.
    pub(super) fn encrypted(stream: TlsStream<TcpStream>) -> Socket {
        let (reader, writer) = tokio::io::split(stream);
        Socket::over(reader, writer, true)
    }

    fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        encrypted: bool,
    ) -> Socket {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Socket { reader: Box::new(reader), writer: Box::new(writer), encrypted, input, output }
    }

    /// Whether what travels is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The next message before the connection is set up (SSLRequest, CancelRequest, StartupMessage), with its length.
    /// None where the client left without one.
    pub(super) async fn startup_packet(&mut self) -> Result<Option<BytesMut>, Stop> {
        loop {
            if let Some(mut length) = self.input.get(..4) {
                let length = length.get_u32() as usize;
                if !(8..=STARTUP_BYTES_MAX).contains(&length) {
                    return Err(Stop::Fatal(Report::fatal("08P01", "invalid length of startup packet")));
                }
                if self.input.len() >= length {
                    return Ok(Some(self.input.split_to(length)));
                }
            }
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next message. None where the client left. Cancel safe.
    pub(super) async fn message(&mut self) -> Result<Option<Incoming>, Stop> {
        loop {
            if let Some(length) = frame_length(&self.input)?.filter(|length| *length < self.input.len()) {
                return decode(self.input.split_to(length + 1)).map(Some);
            }
            if self.reader.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether a Sync waits at the front of the input.
    pub(super) fn sync_is_next(&self) -> bool {
        self.input.starts_with(b"S\0\0\0\x04")
    }

    /// Puts a message into the output; `flush` or a full buffer sends it.
    pub(super) fn put(&mut self, message: PgWireBackendMessage) {
        let length = self.output.len();
        if message.encode(&mut self.output).is_err() {
            // Only a message beyond its size limit is refused; half of it must not go out.
            self.output.truncate(length);
            let report = Report::error("54000", "a message to the client is too long");
            let error = PgWireBackendMessage::ErrorResponse(report.into());
            error.encode(&mut self.output).expect("this short message is within the limits");
        }
    }

    /// Puts encoded messages into the output; where much has gathered, all of it is sent.
    pub(super) async fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.output.len() + bytes.len() < OUTPUT_BYTES {
            self.output.put_slice(bytes);
            return Ok(());
        }
        self.send(bytes).await
    }

    /// Sends all that was put. A client that takes nothing for too long is taken for gone.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        self.send(&[]).await?;
        timeout(SILENCE_MAX, self.writer.flush()).await.map_err(|_| Stop::Gone)??;
        Ok(())
    }

    /// Sends all that was put, and `more` behind it, from where it is.
    async fn send(&mut self, mut more: &[u8]) -> Result<(), Stop> {
        while self.output.has_remaining() || !more.is_empty() {
            let parts = [IoSlice::new(&self.output), IoSlice::new(more)];
            let written = timeout(SILENCE_MAX, self.writer.write_vectored(&parts)).await;
            let written = written.map_err(|_| Stop::Gone)??;
            if written == 0 {
                return Err(Stop::Gone);
            }
            let of_output = written.min(self.output.len());
            self.output.advance(of_output);
            more = &more[written - of_output..];
        }
        Ok(())
    }

    /// Waits for `work`, reading ahead meanwhile: the client leaving ends the wait with `Stop::Gone`.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = self.reader.read_buf(&mut self.input), if self.input.len() < READ_AHEAD_BYTES => {
                    if read? == 0 {
                        return Err(Stop::Gone);
                    }
                }
            }
        }
    }

    /// Says goodbye: sends what is waiting and closes the socket.
    pub(super) async fn close(mut self) {
        if self.flush().await.is_ok() {
            // The client may have closed first; there is nobody left to tell.
            let _ = self.writer.shutdown().await;
        }
    }
}

/// The length that the message at the front claims (type byte not counted), None where it is not there yet.
fn frame_length(input: &[u8]) -> Result<Option<usize>, Stop> {
    let Some((kind, mut rest)) = input.split_first().filter(|(_, rest)| rest.len() >= 4) else { return Ok(None) };
    let length = rest.get_u32() as usize;
    let limit = if matches!(kind, b'Q' | b'P' | b'B' | b'd') { MESSAGE_BYTES_MAX } else { SHORT_BYTES_MAX };
    if length < 4 {
        return Err(Stop::Fatal(Report::fatal("08P01", "invalid message length")));
    }
    if length > limit {
        let report = Report::fatal("54000", format!("a message of {length} bytes exceeds the limit of {limit} bytes"));
        return Err(Stop::Fatal(report.with_hint("Send the rows in smaller batches.")));
    }
    Ok(Some(length))
}

/// Decodes one whole message, type byte first.
fn decode(mut frame: BytesMut) -> Result<Incoming, Stop> {
    let (kind, body) = (frame[0], &frame[5..]);
    let mut walk = Walk { rest: body, utf8: true };
    let whole = walk.message(kind).is_some() && walk.rest.is_empty();
    let utf8 = walk.utf8;
    if !whole {
        return Err(Stop::Fatal(Report::fatal("08P01", format!("invalid message of type '{}'", kind.escape_ascii()))));
    }
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    match PgWireFrontendMessage::decode(&mut frame, &context) {
        Ok(Some(message)) => Ok(Incoming { message, utf8 }),
        Ok(None) => Err(Stop::Fatal(Report::fatal("08P01", "incomplete message"))),
        Err(error) => Err(Stop::Fatal(Report::fatal("08P01", error.to_string()))),
    }
}

/// Walks over a message's body as the protocol lays it out; None at the first thing that is not there.
struct Walk<'a> {
    rest: &'a [u8],
    utf8: bool,
}

impl Walk<'_> {
    fn message(&mut self, kind: u8) -> Option<()> {
        match kind {
            b'Q' => self.text(),
            b'P' => {
                self.text()?;
                self.text()?;
                self.times(4)
            }
            b'B' => {
                self.text()?;
                self.text()?;
                self.times(2)?;
                for _ in 0..self.count()? {
                    self.parameter()?;
                }
                self.times(2)
            }
            b'D' | b'C' => {
                self.skip(1)?;
                self.text()
            }
            b'E' => {
                self.text()?;
                self.skip(4)
            }
            b'f' => self.text(),
            b'H' | b'S' | b'X' | b'c' => Some(()),
            b'd' | b'p' => self.skip(self.rest.len()),
            _ => None,
        }
    }

    /// A null-terminated text.
    fn text(&mut self) -> Option<()> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        self.utf8 &= std::str::from_utf8(&self.rest[..end]).is_ok();
        self.skip(end + 1)
    }

    fn count(&mut self) -> Option<usize> {
        let count = self.rest.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))?;
        self.skip(2)?;
        Some(usize::from(count))
    }

    /// A count and as many items of `size` bytes.
    fn times(&mut self, size: usize) -> Option<()> {
        let count = self.count()?;
        self.skip(count * size)
    }

    fn parameter(&mut self) -> Option<()> {
        let length = self.rest.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes))?;
        self.skip(4)?;
        match length {
            -1 => Some(()),
            _ => self.skip(usize::try_from(length).ok()?),
        }
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use pgwire::messages::Message;
    use pgwire::messages::extendedquery::{Bind, Parse};
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, body: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.put_u8(kind);
        frame.put_u32(body.len() as u32 + 4);
        frame.put_slice(body);
        frame
    }

    #[test]
    fn whole_messages_are_decoded() {
        let mut bytes = BytesMut::new();
        let parameters = vec![None, Some("x".into())];
        Bind::new(None, Some("s".to_owned()), vec![1], parameters, vec![0, 1]).encode(&mut bytes).unwrap();
        assert!(matches!(decode(bytes), Ok(Incoming { message: PgWireFrontendMessage::Bind(bind), utf8: true })
            if bind.parameters.len() == 2));
        let mut bytes = BytesMut::new();
        Parse::new(None, "SELECT $1".to_owned(), vec![23]).encode(&mut bytes).unwrap();
        assert!(matches!(decode(bytes), Ok(Incoming { message: PgWireFrontendMessage::Parse(parse), .. })
            if parse.type_oids == [23]));
        assert!(matches!(decode(frame(b'Q', b"\xff\0")), Ok(Incoming { utf8: false, .. })));
    }

    #[test]
    fn a_message_that_claims_more_than_it_holds_ends_the_connection() {
        let claims_parameters = frame(b'B', b"\0\0\0\0\0\x05\0\0");
        let no_end = frame(b'Q', b"SELECT 1");
        let left_over = frame(b'S', b"x");
        let negative = frame(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0");
        for bad in [claims_parameters, no_end, left_over, negative] {
            assert!(matches!(decode(bad), Err(Stop::Fatal(report)) if report.code() == "08P01"));
        }
    }

    #[test]
    fn a_message_beyond_its_limit_is_refused_before_it_is_read() {
        assert!(matches!(frame_length(b"Q\x7f\xff\xff\xff"), Err(Stop::Fatal(report)) if report.code() == "54000"));
        assert!(matches!(frame_length(b"S\x00\x01\x00\x00"), Err(Stop::Fatal(_))));
        assert!(matches!(frame_length(b"Q\x00\x00\x00"), Ok(None)));
        assert!(matches!(frame_length(b"S\x00\x00\x00\x04"), Ok(Some(4))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(frame(kind, &body));
        }
    }
}
