//! Accepting connections, each in a task of its own with deadlines of its own.
//!
//! Nothing that one client does or leaves undone makes another one wait: handshake, head, body and handler each have an end,
//! and one address can't take all connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::access::Peer;
use super::answer::ApiError;

/// A socket that listens, and what is served on it.
pub struct Listening {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
}

impl Listening {
    /// Binds to exactly this address; with `tls` every connection is TLS, without it none.
    ///
    /// # Errors
    /// The system's: the address is taken, or not this machine's.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        router: Router,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            listener,
            tls,
            router,
        })
    }

    /// Where it listens; tells the port where 0 was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then lets the requests that are being answered end, for at most half a second.
    pub async fn serve(self, stop: Stop) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let crowd = Arc::new(Crowd::default());
        let mut connections = JoinSet::new();
        let mut stopping = pin!(stop.clone().wait());
        loop {
            let permit = tokio::select! {
                () = &mut stopping => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                permit = Arc::clone(&slots).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                () = &mut stopping => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Some(place) = Crowd::enter(&crowd, address.ip()) else {
                        tracing::debug!(%address, "too many connections from this address");
                        continue;
                    };
                    let client = Client {
                        address,
                        tls: self.tls.clone(),
                        router: self.router.clone(),
                        stop: stop.clone(),
                        _slot: permit,
                        _place: place,
                    };
                    connections.spawn(client.attend(stream));
                }
                Err(error) => {
                    // Out of descriptors, mostly: others have to end first.
                    tracing::warn!(%error, "can't accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let _late = timeout(STOP_GRACE, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
    }
}

/// One connection.
struct Client {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stop: Stop,
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

impl Client {
    async fn attend(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(address = %self.address, %error, "connection lost");
            return;
        }
        let Some(config) = &self.tls else {
            return self.talk(stream, None).await;
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                let leaf = session.peer_certificates().and_then(<[_]>::first);
                let certificate = leaf.map(|leaf| Arc::new(leaf.clone().into_owned()));
                self.talk(stream, certificate).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(address = %self.address, %error, "TLS handshake failed")
            }
            Err(_) => tracing::debug!(address = %self.address, "TLS handshake too slow"),
        }
    }

    async fn talk<S>(
        &self,
        stream: S,
        certificate: Option<Arc<rustls::pki_types::CertificateDer<'static>>>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = Peer {
            address: self.address,
            certificate,
        };
        let service = service_fn(|request| answer(self.router.clone(), peer.clone(), request));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.stop.clone().wait() => None,
            () = sleep(CONNECTION_LIFE) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                timeout(REQUEST_TIME, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(address = %self.address, %error, "connection lost");
        }
    }
}

/// Routes a request; body and handler together have a deadline.
async fn answer(
    mut router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    let limit = if request.method() == Method::PUT && request.uri().path().ends_with(UPLOAD_PATH) {
        UPLOAD_TIME
    } else {
        REQUEST_TIME
    };
    match timeout(limit, router.call(request.map(Body::new))).await {
        Ok(answered) => answered,
        Err(_) => {
            let reason = "the request took too long";
            Ok(ApiError::new(StatusCode::REQUEST_TIMEOUT, reason).into_response())
        }
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place in the crowd, free again when it is dropped.
struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// A place, unless the address has its share already.
    fn enter(crowd: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut counts = crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= MAX_CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place {
            crowd: Arc::clone(crowd),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Ends what listens for its [`Stop`]s, once.
#[derive(Debug)]
pub struct StopSwitch(watch::Sender<bool>);

/// Becomes true when the switch is thrown, or gone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A switch and its listener.
#[must_use]
pub fn stop_switch() -> (StopSwitch, Stop) {
    let (sender, receiver) = watch::channel(false);
    (StopSwitch(sender), Stop(receiver))
}

impl StopSwitch {
    /// Tells all listeners to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits for the switch.
    pub async fn wait(mut self) {
        // An error means that the switch is gone: nobody can throw it any more.
        let _gone = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// Connections of one listener; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Connections from one address: many administrators behind one gateway, but never all.
const MAX_CONNECTIONS_OF_ONE: usize = 256;

/// A TLS handshake takes two round trips and some milliseconds.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// From the start of waiting for a request to the end of its head; an idle connection ends after it too.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// From the end of a request's head to its answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// The same where a large body is uploaded; who reads it sees to it that it goes on.
const UPLOAD_TIME: Duration = CONNECTION_LIFE;

/// How the paths of uploads end.
const UPLOAD_PATH: &str = "/sealed";

/// After it a connection ends with its next answer, so that nobody keeps a place for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);

/// What a stop waits for requests that are being answered.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// A pause after an error that only time heals.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 32 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn started(router: Router) -> (SocketAddr, StopSwitch, tokio::task::JoinHandle<()>) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = Listening::bind(any, None, router).await.unwrap();
        let address = listening.address().unwrap();
        let (switch, stop) = stop_switch();
        (address, switch, tokio::spawn(listening.serve(stop)))
    }

    async fn ask(stream: &mut TcpStream) -> usize {
        let _lost = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        stream.read(&mut [0; 512]).await.unwrap_or(0)
    }

    #[tokio::test]
    async fn stops_within_a_second_whatever_is_open() {
        let endless = Router::new().route("/", get(std::future::pending::<StatusCode>));
        let (address, switch, task) = started(endless).await;
        let _idle = TcpStream::connect(address).await.unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let start = Instant::now();
        switch.stop();
        task.await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
        assert_eq!(busy.read(&mut [0; 512]).await.unwrap_or(0), 0);
        TcpStream::connect(address).await.unwrap_err();
    }

    #[tokio::test]
    async fn one_address_has_its_share_and_no_more() {
        let (address, _switch, _task) =
            started(Router::new().route("/", get(async || "yes"))).await;
        let mut all = Vec::new();
        for _ in 0..MAX_CONNECTIONS_OF_ONE {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut stream).await > 0);
            all.push(stream);
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut refused).await, 0, "one too many");

        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        let mut other = socket.connect(address).await.unwrap();
        assert!(
            ask(&mut other).await > 0,
            "another address still has its own"
        );

        all.clear();
        let freed = async {
            loop {
                let mut stream = TcpStream::connect(address).await.unwrap();
                if ask(&mut stream).await > 0 {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(5), freed).await.unwrap();
    }
}
