use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::IntGauge;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::accept::{Accepted, Acceptor, Pause, is_passing};
use super::connection::House;
use super::guest::Guest;
use super::io::Io;
use super::room::{Place, Room};
use super::stream::Stream;
use super::{Connection, Crew, Limits, Listener, Request, Response, Stop};
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
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
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
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
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
                None => guest.serve(Stream::Plain(io)).await,
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
