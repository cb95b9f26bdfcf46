//! The client that speaks to the program: HTTP/1.1 over the loopback, connections kept, bodies
//! passed on as they come in both directions. All of its work is done on the main runtime,
//! which outlives the threads of the server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::chain;

/// How long an unused connection is kept: less than Go's servers keep it, so that ours is the
/// side that closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take. The program is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Blocks of a body between the client's connection and the program's.
const BLOCKS_AHEAD: usize = 4;

/// What the program answers.
pub type Answer = Response<Incoming>;

/// A part of a client's body, or the sign that there will be no more although there should.
pub type Block = Result<Bytes, ClientGone>;

/// The client went away in the middle of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientGone;

impl std::fmt::Display for ClientGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client went away")
    }
}

impl std::error::Error for ClientGone {}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made, so nothing was sent.
    Unreachable,
    /// It was sent, or may have been.
    Broken(String),
}

/// The client. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: Client<HttpConnector, Outgoing>,
    runtime: Handle,
}

impl Upstream {
    /// A client that works on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(OnRuntime(runtime.clone()))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, runtime }
    }

    /// Sends a request to `address`. Of its URI, path and query count, and they are passed on
    /// as they are. Dropped, it takes the request back.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send(
        &self,
        address: SocketAddr,
        mut request: Request<Outgoing>,
    ) -> Result<Answer, Failure> {
        *request.uri_mut() = at(address, request.uri().path_and_query());
        let sent = self.client.request(request);
        let mut task = Aborting(self.runtime.spawn(sent));
        let answer = (&mut task.0).await;
        let answer = answer.map_err(|error| Failure::Broken(error.to_string()))?;
        answer.map_err(|error| match error.is_connect() {
            true => Failure::Unreachable,
            false => Failure::Broken(chain(&error)),
        })
    }
}

fn at(address: SocketAddr, path: Option<&PathAndQuery>) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(address.to_string()).ok();
    parts.path_and_query = Some(path.cloned().unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// Ends its task when nobody waits for it any more.
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Clone)]
struct OnRuntime(Handle);

impl<F> hyper::rt::Executor<F> for OnRuntime
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The body of a request on its way to the program. A clone is the same body: what one has
/// taken, the other does not get.
#[derive(Debug, Clone)]
pub struct Outgoing(Source);

#[derive(Debug, Clone)]
enum Source {
    Whole(Option<Bytes>),
    Stream { blocks: Arc<Mutex<mpsc::Receiver<Block>>>, left: Option<u64> },
}

impl Outgoing {
    /// No body.
    pub fn empty() -> Self {
        Self(Source::Whole(None))
    }

    /// A body that is at hand.
    pub fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// A body that comes in blocks, `length` bytes in all if that is known. It ends cleanly
    /// when its sender is dropped.
    pub fn stream(length: Option<u64>) -> (mpsc::Sender<Block>, Self) {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let blocks = Arc::new(Mutex::new(blocks));
        (sender, Self(Source::Stream { blocks, left: length }))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Source::Whole(None))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = ClientGone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientGone>>> {
        let block = match &mut self.0 {
            Source::Whole(bytes) => bytes.take().map(Ok),
            Source::Stream { blocks, left } => {
                let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
                let block = ready!(blocks.poll_recv(cx));
                if let (Some(left), Some(Ok(bytes))) = (left, &block) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                block
            }
        };
        Poll::Ready(block.map(|block| block.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Stream { left: None, .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_out_as_it_came_in() {
        let address = "127.0.0.1:9".parse().expect("an address");
        for path in ["/", "/a//b/%2f?x=%zz", "/_/#", "/api/x?a=b&c"] {
            let uri: Uri = path.parse().expect("a URI");
            let expected = uri.path_and_query().expect("a path").as_str();
            assert_eq!(at(address, uri.path_and_query()), *format!("http://127.0.0.1:9{expected}"));
        }
    }
}
