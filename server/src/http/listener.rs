//! Accepted HTTP connections, encrypted where a certificate is there.
//!
//! **Invariant:** a slow handshake holds nobody else up; a client that takes no bytes for [`SILENCE_MAX`] is cut off; at most
//! [`CONNECTIONS_MAX`] connections are open, and more wait to be accepted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::access::Access;
use crate::serve::SILENCE_MAX;

/// Connections that may be open at a time.
pub(super) const CONNECTIONS_MAX: usize = 1_000;
/// Handshakes that are done and wait to be taken.
const ACCEPTED_MAX: usize = 16;
/// Time that a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted (no file descriptors left, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener of plain or encrypted connections.
pub(super) struct Web {
    accepted: mpsc::Receiver<(Stream, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

/// The other end's address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Web>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Web>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

impl Web {
    /// Starts to accept. Must run on the I/O runtime.
    pub(super) fn new(listener: TcpListener, access: Arc<Access>) -> Web {
        let address = listener.local_addr();
        let (sender, accepted) = mpsc::channel(ACCEPTED_MAX);
        tokio::spawn(accept(listener, access, sender));
        Web { accepted, address }
    }
}

impl Listener for Web {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The task that accepts ends with this listener only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| error.kind().into())
    }
}

async fn accept(listener: TcpListener, access: Arc<Access>, accepted: mpsc::Sender<(Stream, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = tokio::select! {
            () = accepted.closed() => return,
            new = listener.accept() => match new {
                Ok(new) => new,
                Err(error) => {
                    tracing::warn!(%error, "an HTTP client could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (tls, accepted) = (access.tls(), accepted.clone());
        tokio::spawn(async move {
            if let Some(stream) = opened(stream, tls).await {
                let _ = accepted.send((Stream::new(stream, place), peer)).await;
            }
        });
    }
}

/// The connection, after its handshake where there is one; None where that fails.
async fn opened(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Duplex>> {
    // Only latency is lost where the option is refused.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return Some(Box::new(stream)) };
    match timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// One connection.
pub(super) struct Stream {
    inner: Box<dyn Duplex>,
    /// Runs while bytes wait for the client.
    waiting: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    fn new(inner: Box<dyn Duplex>, place: OwnedSemaphorePermit) -> Stream {
        Stream { inner, waiting: None, _place: place }
    }

    /// The outcome of a write, or an error where the client has been silent for too long.
    fn patient<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(SILENCE_MAX)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.patient(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.patient(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(context);
        self.patient(context, ended)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.patient(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
