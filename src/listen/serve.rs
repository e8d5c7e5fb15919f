use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use super::accept::{Accepted, Acceptor, Pause, is_passing};
use super::connection::House;
use super::io::Io;
use super::room::{Place, Room};
use super::{Connection, Crew, Limits, Listener, Stop};
use crate::message::Protocol;

/// What a new connection finds: its limits, and whether TLS is spoken.
#[derive(Clone)]
pub struct Door {
    /// What it is held to.
    pub limits: Limits,
    /// What the handshake is done with; plain HTTP without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// What [`serve`] goes by.
pub struct ServeOptions {
    /// Looked at for each new connection, so that a reload may swap it.
    pub door: Arc<ArcSwap<Door>>,
    /// Shows how many connections are open.
    pub connections: IntGauge,
    /// Tells when to stop.
    pub stop: Stop,
    /// Serves the connections.
    pub crew: Crew,
}

/// The largest head (bytes): what Node takes too, and a webhook's is about 1 KiB.
/// It bounds what 10 000 senders of half heads can make us keep.
const MAX_HEAD: usize = 16 * 1024;

/// The largest read at one time (bytes). Bodies come through a buffer that grows
/// up to this while reads fill it; twice as much saves a large body a few calls
/// a megabyte, and costs every connection twice the memory.
const MAX_READ: usize = 32 * 1024;

/// How often a full listener looks whether its limit was raised.
const RECHECK: Duration = Duration::from_secs(1);

/// Accepts connections and answers their requests with the services that `make`
/// gives, one for each connection, until `options.stop` says so and the last
/// connection is gone. The number of connections that had to be cut.
///
/// # Errors
/// When the runtime cannot watch the socket.
pub async fn serve<M, S>(listener: Listener, make: M, options: ServeOptions) -> io::Result<usize>
where
    M: Fn(Arc<Connection>) -> S,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let mut acceptor = Acceptor::new(listener)?;
    let stop = options.stop.clone();
    let floor = Floor {
        room: Arc::new(Room::default()),
        tasks: TaskTracker::new(),
        options,
    };
    let mut pause = Pause::default();
    loop {
        // The place is taken before the connection is, so that those past the
        // limit wait in the kernel's queue and cost nothing here.
        tokio::select! {
            biased;
            () = stop.closing() => break,
            () = floor.place() => {}
        }
        let accepted = tokio::select! {
            biased;
            () = stop.closing() => break,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                pause.over();
                floor.admit(accepted, &make);
            }
            // The sender was gone before we came to it.
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                pause.tell(&error);
                tokio::select! {
                    biased;
                    () = stop.closing() => break,
                    () = tokio::time::sleep(pause.next()) => {}
                }
            }
        }
    }
    // Connections that the kernel completed are ours: closing the socket would
    // reset them, so they are taken in and told that we are leaving.
    for accepted in acceptor.last(floor.left()) {
        floor.admit(accepted, &make);
    }
    Ok(floor.finish().await)
}

/// The connections that are open.
struct Floor {
    room: Arc<Room>,
    tasks: TaskTracker,
    options: ServeOptions,
}

impl Floor {
    /// Waits until there is room for one more.
    async fn place(&self) {
        loop {
            let freed = self.room.freed();
            let full = self.left() == 0;
            self.room.set_full(full);
            if !full {
                return;
            }
            // A reload that makes more room wakes nobody: look again by and by.
            let _ = timeout(RECHECK, freed).await;
        }
    }

    /// How many more connections there is room for.
    fn left(&self) -> usize {
        let most = self.options.door.load().limits.max_connections;
        most.saturating_sub(self.room.open())
    }

    fn admit<M, S>(&self, accepted: Accepted, make: &M)
    where
        M: Fn(Arc<Connection>) -> S,
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let Some(post) = self.options.crew.post() else {
            return;
        };
        let place = Place::take(&self.room, &self.options.connections);
        let door = self.options.door.load();
        let stop = &self.options.stop;
        let protocol = match door.tls {
            None => Protocol::Http,
            Some(_) => Protocol::Https,
        };
        let house = House {
            limits: door.limits,
            room: Arc::clone(&self.room),
            stop: stop.clone(),
        };
        let connection = Arc::new(Connection::new(accepted.peer, protocol, house));
        let service = make(Arc::clone(&connection));
        let guest = Guest {
            connection: Arc::clone(&connection),
            service,
            stop: stop.clone(),
        };
        let tls = door.tls.clone();
        let runtime = post.runtime().clone();
        let serving = async move {
            let _place = (place, post);
            let Ok(socket) = accepted.watch() else {
                // It is closed by that: without a runtime nobody can answer.
                return;
            };
            let io = Io::new(socket, connection);
            match tls {
                None => guest.serve(io).await,
                // Boxed, so that a plain connection does not carry its size.
                Some(tls) => Box::pin(guest.serve_tls(io, tls)).await,
            }
        };
        self.tasks.spawn_on(serving, &runtime);
    }

    /// Waits for the last connection, and cuts those that take too long.
    async fn finish(self) -> usize {
        let stop = &self.options.stop;
        self.tasks.close();
        let gone = self.tasks.wait();
        let told = async {
            stop.finishing().await;
            tokio::select! {
                () = stop.cutting() => {}
                () = tokio::time::sleep(stop.within()) => {}
            }
        };
        tokio::select! {
            () = gone => return 0,
            () = told => {}
        }
        let left = self.tasks.len();
        stop.cut();
        self.tasks.wait().await;
        left
    }
}

/// One connection with the service that answers it.
struct Guest<S> {
    connection: Arc<Connection>,
    service: S,
    stop: Stop,
}

impl<S> Guest<S>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    async fn serve_tls(self, io: Io, tls: Arc<rustls::ServerConfig>) {
        let Some(deadline) = self.connection.deadline() else {
            return;
        };
        let stream = tokio::select! {
            biased;
            () = self.stop.finishing() => return,
            () = sleep_until(deadline) => return,
            stream = TlsAcceptor::from(tls).accept(io) => stream,
        };
        // A handshake that fails is the sender's to tell; it got an alert.
        if let Ok(stream) = stream {
            self.connection.shook_hands();
            self.serve(stream).await;
        }
    }

    async fn serve<T>(self, stream: T)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            connection,
            service,
            stop,
        } = self;
        let shared = Arc::clone(&connection);
        let answer = service_fn(move |request: Request<Incoming>| {
            let connection = Arc::clone(&shared);
            connection.head_whole(!request.body().is_end_stream());
            let answer = service.clone().oneshot(request);
            async move {
                let mut response = answer.await?;
                connection.answered(response.headers_mut());
                Ok::<_, Infallible>(response)
            }
        });
        let http = http1::Builder::new()
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
            .serve_connection(TokioIo::new(stream), answer);
        let mut http = pin!(http);
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
                if http.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                http.as_mut().graceful_shutdown();
                told = true;
            }
            // An error is the sender's doing, and nobody is left to tell.
            if http.as_mut().poll(cx).is_ready() {
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
