//! One TCP connection under the HTTP library. The library refuses what it cannot parse with a
//! head of its own and without a word; here its refusal is held back and Go's is sent instead.
//!
//! An answer's last bytes may look like such a refusal, so looks alone decide nothing. After a
//! real one the library ends the connection's future with the error, in the same turn; if it
//! goes on instead, the bytes go out as they are. Nothing else is touched or copied but the
//! first bytes of each request, which tell the reason.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::{DispatchError, ParseError};
use actix_service::{Service, ServiceFactory, fn_factory, forward_ready};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::http::refusals::{Refusal, start_of_refusals};

/// How much is remembered of what a client sent since the last answer.
const SEEN_BYTES_MAX: usize = 8 * 1024;
/// How long a refused client may go on sending. Closing on it at once would reset the
/// connection, and it might never see why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ends badly.
type Broken = DispatchError;

/// Serves TCP connections with what serves [`Gate`]s, and words its refusals.
pub fn worded<F>(
    factory: F,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = Broken, InitError = ()>
where
    F: ServiceFactory<
            (Gate, Option<SocketAddr>),
            Config = (),
            Response = (),
            Error = DispatchError,
            InitError = (),
        >,
    F::Future: 'static,
    <F::Service as Service<(Gate, Option<SocketAddr>)>>::Future: 'static,
{
    fn_factory(move || {
        let service = factory.new_service(());
        async move { Ok(Worded { service: service.await? }) }
    })
}

struct Worded<S> {
    service: S,
}

impl<S> Service<TcpStream> for Worded<S>
where
    S: Service<(Gate, Option<SocketAddr>), Response = (), Error = DispatchError>,
    S::Future: 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Future = LocalBoxFuture<'static, Result<(), DispatchError>>;

    forward_ready!(service);

    fn call(&self, socket: TcpStream) -> Self::Future {
        let peer = socket.peer_addr().ok();
        let line = Rc::new(RefCell::new(Line::new(socket)));
        let served = self.service.call((Gate(line.clone()), peer));
        Box::pin(async move {
            let result = served.await;
            let line = Rc::into_inner(line).map(RefCell::into_inner);
            if let (Err(DispatchError::Parse(error)), Some(line)) = (&result, line)
                && !line.held.is_empty()
            {
                // Whoever does not take it in time has gone, or does not care.
                let _ = timeout(FAREWELL, line.refuse(error)).await;
            }
            result
        })
    }
}

/// The library's end of a connection.
pub struct Gate(Rc<RefCell<Line>>);

impl Gate {
    /// Tells when the client has gone.
    pub fn departure(&self) -> Departure {
        Departure(self.0.borrow().gone.subscribe())
    }
}

/// Tells when a client has closed its side of a connection. The library does not: what it
/// still has to say might be read.
#[derive(Debug, Clone)]
pub struct Departure(watch::Receiver<bool>);

impl Departure {
    /// Returns when the client has closed its side, or the connection is over.
    pub async fn wait(mut self) {
        // An error means that the connection is no more.
        let _ = self.0.wait_for(|gone| *gone).await;
    }
}

struct Line<T = TcpStream> {
    socket: T,
    /// What came first since the last answer.
    seen: Vec<u8>,
    answered: bool,
    /// What looks like a refusal, and was not sent.
    held: Vec<u8>,
    /// Whether `held` was flushed once. The library does that once before it ends.
    flushed: bool,
    gone: watch::Sender<bool>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Line<T> {
    fn new(socket: T) -> Self {
        let gone = watch::Sender::new(false);
        Self { socket, seen: Vec::new(), answered: false, held: Vec::new(), flushed: false, gone }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            self.gone.send_replace(true);
        }
        if std::mem::take(&mut self.answered) {
            self.seen.clear();
        }
        let (new, room) = (&buf.filled()[before..], SEEN_BYTES_MAX - self.seen.len());
        self.seen.extend_from_slice(&new[..new.len().min(room)]);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_release(cx))?;
        let own = start_of_refusals(bytes);
        if own == 0 && !bytes.is_empty() {
            self.held.extend_from_slice(bytes);
            self.flushed = false;
            // If this was no refusal, there must be a next turn that lets it go.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(bytes.len()));
        }
        self.answered = true;
        Pin::new(&mut self.socket).poll_write(cx, &bytes[..own])
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.flushed, true) {
            ready!(self.poll_release(cx))?;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Sends what was held: it was no refusal.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.held.drain(..sent)),
            }
            self.answered = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Says why, and closes when the client has taken it.
    async fn refuse(mut self, error: &ParseError) -> io::Result<()> {
        let refusal = Refusal::of(error, &self.seen);
        self.socket.write_all(refusal.answer().as_bytes()).await?;
        self.socket.shutdown().await?;
        let mut rest = vec![0; SEEN_BYTES_MAX];
        while self.socket.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
