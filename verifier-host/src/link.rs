//! One kept-alive HTTP/1.1 connection to one peer, over TLS or plain: how the verifier talks to a node, and the tenant to
//! everybody.
//!
//! Every wait ends and every answer is bounded. A connection that the peer has closed while it was idle is replaced without
//! the caller's notice; a request that may have been acted on is never sent twice, unless its method is idempotent.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use body::Outgoing;
use error::{broken, handshake};

mod body;
mod error;

pub use body::{Sent, in_one_piece};
pub use error::LinkError;
pub use hyper::Method;

/// Where a peer is: a host name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a peer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time to find the host, to connect and to shake hands.
    pub connect: Duration,
    /// Time from the request's first byte to the answer's last.
    pub answer: Duration,
    /// Size of an answer's body in bytes.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            answer_bytes: 16 << 20,
        }
    }
}

/// What a peer answered, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
    peer: Endpoint,
}

impl Answer {
    /// The body as JSON of this type.
    ///
    /// # Errors
    /// [`LinkError::Json`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, LinkError> {
        serde_json::from_slice(&self.body).map_err(|source| LinkError::Json {
            peer: self.peer.clone(),
            status: self.status,
            source,
        })
    }

    /// The peer's reason in one line of at most 200 printable characters: the envelope's `status`, or the first `detail` of
    /// an authorization failure; empty if it gave none.
    #[must_use]
    pub fn reason(&self) -> String {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else {
            return String::new();
        };
        let text = body
            .get("status")
            .or_else(|| body.pointer("/errors/0/detail"))
            .and_then(Value::as_str);
        let printable = |character: &char| !character.is_control();
        text.unwrap_or_default()
            .chars()
            .filter(printable)
            .take(200)
            .collect()
    }
}

/// A peer and the connection to it, which is opened when it is first needed.
pub struct Link {
    peer: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits,
    connection: Option<Connection>,
}

/// An open connection. Its task ends with it.
struct Connection {
    sender: SendRequest<Outgoing>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// A link to the peer, not connected yet; without `tls` it speaks plain HTTP.
    #[must_use]
    pub const fn new(peer: Endpoint, tls: Option<Arc<ClientConfig>>, limits: Limits) -> Self {
        Self {
            peer,
            tls,
            limits,
            connection: None,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Endpoint {
        &self.peer
    }

    /// Connects now, unless the connection is already there.
    ///
    /// # Errors
    /// [`LinkError`]: all that can go wrong before a request.
    pub async fn connect(&mut self) -> Result<(), LinkError> {
        self.ready().await.map(|_| ())
    }

    /// Sends a request with a JSON body, and waits for the answer.
    ///
    /// # Errors
    /// As [`Link::send`]; [`LinkError::Request`] if the body can't be written as JSON.
    pub async fn request<T: Serialize + ?Sized>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<Answer, LinkError> {
        let bytes = body
            .map(|body| serde_json::to_vec(body))
            .transpose()
            .map_err(|source| LinkError::Request {
                peer: self.peer.clone(),
                path: path.to_owned(),
                source: source.into(),
            })?;
        self.send(method, path, bytes.map(Bytes::from)).await
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub async fn get(&mut self, path: &str) -> Result<Answer, LinkError> {
        self.send(Method::GET, path, None).await
    }

    /// Sends a request, its body being JSON already, and waits for the answer.
    ///
    /// # Errors
    /// [`LinkError`]; after any of them the next request opens a new connection.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, LinkError> {
        let limit = self.limits.answer;
        let result = match timeout(limit, self.exchange(&method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(LinkError::Timeout {
                peer: self.peer.clone(),
                what: "answer",
                limit,
            }),
        };
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// Sends a request whose body is read while it goes, and waits for the answer. It has a connection of its own, so that it
    /// never meets one that the peer has closed; `sent` tells how far it is.
    ///
    /// The limit of an answer holds from one sign of progress to the next. The reader must give exactly `length` bytes.
    ///
    /// # Errors
    /// [`LinkError`]; after any of them the next request opens a new connection.
    pub async fn upload(
        &mut self,
        method: Method,
        path: &str,
        reader: impl io::Read + Send + 'static,
        length: u64,
        sent: &Sent,
    ) -> Result<Answer, LinkError> {
        self.connection = None;
        let limit = self.limits.answer;
        let body = Outgoing::read(Box::new(reader), length, sent.clone());
        let request = self.request_for(&method, path, Some(OCTETS), body)?;
        let exchange = async {
            let peer = self.peer.clone();
            let connection = self.ready().await?;
            let response = connection.sender.send_request(request).await;
            self.read(response.map_err(|source| broken(peer, source))?)
                .await
        };
        let result = tokio::select! {
            result = exchange => Some(result),
            () = stalled(sent, limit) => None,
        };
        let result = result.unwrap_or_else(|| {
            Err(LinkError::Timeout {
                peer: self.peer.clone(),
                what: "answer",
                limit,
            })
        });
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, LinkError> {
        loop {
            let reused = self.connection.is_some();
            let request = self.write(method, path, body.clone())?;
            let peer = self.peer.clone();
            let connection = self.ready().await?;
            match connection.sender.try_send_request(request).await {
                Ok(response) => return self.read(response).await,
                Err(mut error) => {
                    let unsent = error.take_message().is_some();
                    self.connection = None;
                    if !(reused && (unsent || method.is_idempotent())) {
                        return Err(broken(peer, error.into_error()));
                    }
                }
            }
        }
    }

    fn write(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Request<Outgoing>, LinkError> {
        let kind = body.is_some().then_some(JSON);
        self.request_for(method, path, kind, Outgoing::Whole(body))
    }

    fn request_for(
        &self,
        method: &Method,
        path: &str,
        kind: Option<&'static str>,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, LinkError> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, self.peer.to_string())
            .header(ACCEPT, JSON);
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        request.body(body).map_err(|source| LinkError::Request {
            peer: self.peer.clone(),
            path: path.to_owned(),
            source: source.into(),
        })
    }

    async fn read(&mut self, response: Response<Incoming>) -> Result<Answer, LinkError> {
        let status = response.status().as_u16();
        let limit = self.limits.answer_bytes;
        if response.body().size_hint().lower() > limit as u64 {
            let peer = self.peer.clone();
            return Err(LinkError::TooLarge { peer, limit });
        }
        match in_one_piece(Limited::new(response.into_body(), limit)).await {
            Ok(body) => Ok(Answer {
                status,
                body,
                peer: self.peer.clone(),
            }),
            Err(error) => {
                let peer = self.peer.clone();
                match error.downcast::<hyper::Error>() {
                    Ok(source) => Err(broken(peer, *source)),
                    Err(other) => {
                        debug_assert!(other.is::<LengthLimitError>(), "{other}");
                        Err(LinkError::TooLarge { peer, limit })
                    }
                }
            }
        }
    }

    /// The open connection: the one that is there, if the peer hasn't closed it, else a new one.
    async fn ready(&mut self) -> Result<&mut Connection, LinkError> {
        let usable = match self.connection.take() {
            Some(mut connection) => match connection.sender.ready().await {
                Ok(()) => Some(connection),
                Err(_) => None,
            },
            None => None,
        };
        let connection = match usable {
            Some(connection) => connection,
            None => self.open().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn open(&self) -> Result<Connection, LinkError> {
        let limit = self.limits.connect;
        match timeout(limit, self.open_unhurried()).await {
            Ok(result) => result,
            Err(_) => Err(LinkError::Timeout {
                peer: self.peer.clone(),
                what: "connection",
                limit,
            }),
        }
    }

    async fn open_unhurried(&self) -> Result<Connection, LinkError> {
        let stream = self.dial().await?;
        let Some(config) = &self.tls else {
            return self.shake_hands(stream).await;
        };
        let name =
            ServerName::try_from(self.peer.host.clone()).map_err(|source| LinkError::Resolve {
                peer: self.peer.clone(),
                source: io::Error::new(io::ErrorKind::InvalidInput, source),
            })?;
        let connector = TlsConnector::from(Arc::clone(config));
        match connector.connect(name, stream).await {
            Ok(stream) => self.shake_hands(stream).await,
            Err(source) => Err(handshake(self.peer.clone(), source)),
        }
    }

    async fn dial(&self) -> Result<TcpStream, LinkError> {
        let addresses: Vec<SocketAddr> = match self.peer.host.parse::<IpAddr>() {
            Ok(address) => vec![(address, self.peer.port).into()],
            Err(_) => tokio::net::lookup_host((self.peer.host.as_str(), self.peer.port))
                .await
                .map_err(|source| LinkError::Resolve {
                    peer: self.peer.clone(),
                    source,
                })?
                .collect(),
        };
        let connect = |source| LinkError::Connect {
            peer: self.peer.clone(),
            source,
        };
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        Ok(stream)
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<Connection, LinkError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| broken(self.peer.clone(), source))?;
        let driver = tokio::spawn(async move {
            // What ends a connection reaches the request that waits on it, or the next `ready`.
            let _ended = connection.await;
        });
        Ok(Connection { sender, driver })
    }
}

/// Ends when nothing was sent for so long.
async fn stalled(sent: &Sent, limit: Duration) {
    let mut before = sent.bytes();
    loop {
        tokio::time::sleep(limit).await;
        let now = sent.bytes();
        if now == before {
            return;
        }
        before = now;
    }
}

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// The largest head of an answer; hyper's default is 400 KiB.
const MAX_HEAD_BYTES: usize = 64 << 10;

#[cfg(all(test, feature = "server"))]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests;
