use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http_body_util::Full;
use hyper::body::{Body, Incoming as HyperBody};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceExt as _};

use super::io::Io;
use super::stream::{Stream, Wire};
use super::usual::{End, Usual};
use super::{Connection, Request, Response, Stop};

/// The largest head (bytes): what Node takes too, and a webhook's is about 1 KiB.
/// It bounds what 10 000 senders of half heads can make us keep.
const MAX_HEAD: usize = 16 * 1024;

/// The most that may come until a TLS handshake is done (bytes). Usual ones have
/// 2 KiB; with the last of it, the first record of what follows is read, which may
/// have 16 KiB, and the beginning of the next.
const MAX_HANDSHAKE: usize = 32 * 1024;

/// The largest read at one time (bytes). Bodies come through a buffer that grows
/// up to this while reads fill it; twice as much saves a large body a few calls
/// a megabyte, and costs every connection twice the memory.
const MAX_READ: usize = 32 * 1024;

/// One connection with the service that answers it.
pub(super) struct Guest<S> {
    pub(super) connection: Arc<Connection>,
    pub(super) service: S,
    pub(super) stop: Stop,
}

impl<S> Guest<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    pub(super) async fn serve_tls(self, mut io: Io, tls: Arc<rustls::ServerConfig>) {
        let Some(deadline) = self.connection.deadline() else {
            return;
        };
        io.expect_handshake(MAX_HANDSHAKE);
        let stream = tokio::select! {
            biased;
            () = self.stop.finishing() => return,
            () = sleep_until(deadline) => return,
            stream = TlsAcceptor::from(tls).accept(io) => stream,
        };
        // A handshake that fails is the sender's to tell; it got an alert.
        if let Ok(mut stream) = stream {
            stream.get_mut().0.shook_hands();
            self.serve(Stream::Tls(Box::new(stream))).await;
        }
    }

    pub(super) async fn serve(self, stream: Stream) {
        let Self {
            connection,
            service,
            stop,
        } = self;
        let mut talk = Talk::new(Arc::clone(&connection), service, stream);
        let mut finishing = pin!(stop.finishing());
        let mut cutting = pin!(stop.cutting());
        let mut sleep = pin!(sleep_until(
            connection.deadline().unwrap_or_else(Instant::now)
        ));
        let mut turn = pin!(yield_now());
        let mut told = false;
        let mut listening = false;

        poll_fn(|cx| {
            if stop.is_cut() {
                return Poll::Ready(());
            }
            if !told && stop.is_finishing() && turn.as_mut().poll(cx).is_ready() {
                // A request that is already here is still answered: told before
                // it is read, the connection would end as an idle one. The
                // runtime had its turn to hear of it.
                if talk.poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                talk.leave();
                connection.leaves();
                told = true;
            }
            if talk.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Once is enough, as this is a task of its own: its waker never
            // changes. Asking each time would have all connections meet at one
            // lock at every turn.
            if !listening {
                listening = true;
                let called = finishing.as_mut().poll(cx).is_ready();
                if called | cutting.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            // The timer is left armed when the deadline moves away, which it
            // does with each request, and set anew when it fires too early.
            while let Some(deadline) = connection.deadline() {
                if deadline < sleep.deadline() || sleep.is_elapsed() {
                    sleep.as_mut().reset(deadline);
                }
                if sleep.as_mut().poll(cx).is_pending() {
                    break;
                }
                if Instant::now() >= deadline {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }
}

/// Who reads the requests of a connection and writes their answers.
enum Talk<S: Service<Request>> {
    /// This house, as long as all requests are usual ones.
    Usual(Usual<S>),
    /// hyper, from the first that is not.
    Hyper(Pin<Box<dyn Conversation>>),
    /// Nobody any more.
    Over,
}

impl<S> Talk<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    fn new(connection: Arc<Connection>, service: S, stream: Stream) -> Self {
        Talk::Usual(Usual::new(connection, service, Wire::new(stream)))
    }

    /// Until it is over, well or not: an error is the sender's doing, and nobody is
    /// left to tell.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let wire = match self {
                Talk::Hyper(hyper) => return hyper.as_mut().poll_over(cx),
                Talk::Over => return Poll::Ready(()),
                Talk::Usual(usual) => match ready!(usual.poll(cx)) {
                    End::Over => return Poll::Ready(()),
                    End::Unusual(wire) => wire,
                },
            };
            if let Talk::Usual(usual) = std::mem::replace(self, Talk::Over) {
                let (connection, service) = usual.into_parts();
                *self = Talk::Hyper(hyper(connection, service, wire));
            }
        }
    }

    /// The present answer, or one to a request that is already here, is the last.
    fn leave(&mut self) {
        match self {
            Talk::Usual(usual) => usual.leave(),
            Talk::Hyper(hyper) => hyper.as_mut().leave(),
            Talk::Over => {}
        }
    }
}

/// A connection in the hands of hyper.
trait Conversation: Send {
    fn poll_over(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    fn leave(self: Pin<&mut Self>);
}

impl<S> Conversation for http1::Connection<TokioIo<Wire>, S>
where
    S: HttpService<HyperBody, ResBody = Full<Bytes>> + Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
{
    fn poll_over(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx).map(drop)
    }

    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// hyper's way with a connection on which `wire` comes.
fn hyper<S>(connection: Arc<Connection>, service: S, wire: Wire) -> Pin<Box<dyn Conversation>>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let answer = service_fn(move |request: http::Request<HyperBody>| {
        let connection = Arc::clone(&connection);
        connection.head_whole(!request.body().is_end_stream());
        // Boxed at once: on its way into hyper it is moved several times.
        let answer = Box::pin(service.clone().oneshot(request.into()));
        async move {
            let mut response = answer.await?.into_http();
            if connection.answered() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    Box::pin(
        http1::Builder::new()
            .keep_alive(true)
            // A sender that shuts its side down has hung up.
            .half_close(false)
            // It would also cut connections that wait for their next request.
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_READ)
            // Answers are small: one copy is cheaper than a list of buffers.
            .writev(false)
            .pipeline_flush(false)
            .serve_connection(TokioIo::new(wire), answer),
    )
}
