use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// More of a body than this is refused (bytes).
const LARGEST: usize = 16 << 20;
/// Arrivals that may wait to be printed; a further one waits with its answer.
const WAITING: usize = 64;

/// What a service was sent.
pub(super) struct Arrival {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A service on a free port of this machine that accepts every event and hands
/// over what it was sent, before it answers. It ends with the runtime.
pub(super) async fn start() -> io::Result<(SocketAddr, mpsc::Receiver<Arrival>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (arrived, arrivals) = mpsc::channel(WAITING);
    tokio::spawn(accept(listener, arrived));
    Ok((address, arrivals))
}

async fn accept(listener: TcpListener, arrived: mpsc::Sender<Arrival>) {
    // Only a gateway in this process connects, within its own limits.
    while let Ok((stream, _)) = listener.accept().await {
        let arrived = arrived.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| take(request, &arrived));
            // A connection that breaks off is the gateway's to tell.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    arrived: &mpsc::Sender<Arrival>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(Full::default());
    match Limited::new(body, LARGEST).collect().await {
        Ok(body) => {
            *answer.status_mut() = StatusCode::NO_CONTENT;
            let arrival = Arrival {
                method: head.method,
                path: head.uri.path().to_owned(),
                headers: head.headers,
                body: body.to_bytes(),
            };
            // Nobody looks any more: the event is accepted all the same.
            let _ = arrived.send(arrival).await;
        }
        Err(_) => *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
    }
    Ok(answer)
}
