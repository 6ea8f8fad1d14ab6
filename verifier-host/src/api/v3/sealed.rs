//! Sealed payloads in and out. They are ciphertext, larger than memory, and go from and to a file piece by piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_core::wire::manifest::{Manifest, PayloadId};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncRead as _, AsyncSeekExt as _, ReadBuf};
use tokio::time::timeout;

use super::error::{Error, plain};
use super::{Answer, Api, administrator, agent_id, payload_id, push_of, to_its_end};
use crate::http::Peer;
use crate::payloads::Deposit;
use crate::payloads::vault::Incoming;
use crate::rounds::node::{Node, unix_now};

/// Takes the sealed bytes of a deposit. It counts, in the place of the older one, once they are whole and on disk.
pub(super) async fn upload(
    State(api): State<Api>,
    Path((id, payload)): Path<(String, String)>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    administrator(&peer, &headers)?;
    let node = api.node(&agent_id(&id)?)?;
    let payload = payload_id(&payload)?;
    let current = push_of(&node)?.held().deposit;
    let current = current.filter(|deposit| deposit.manifest.payload_id == payload);
    let drafted = api.rounds.store().drafted(&node.id, payload).await?;
    let manifest = drafted
        .as_ref()
        .or(current.as_ref().map(|deposit| &deposit.manifest))
        .ok_or_else(Error::unknown_payload)?;
    let incoming = receive(&api, manifest, body).await?;
    if drafted.is_some() {
        to_its_end(complete(api, node, payload, incoming)).await?;
    }
    let body = json!({ "payload_id": payload.to_string() });
    Ok(plain(StatusCode::CREATED, &body))
}

async fn receive(api: &Api, manifest: &Manifest, mut body: Body) -> Result<Incoming, Error> {
    let want = manifest.sealed_bytes;
    if want > api.max_payload_bytes || body.size_hint().lower() > api.max_payload_bytes {
        let detail = format!("at most {} sealed bytes are taken", api.max_payload_bytes);
        return Err(Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            detail,
        ));
    }
    let wrong = |have: u64| {
        let detail = format!("{have} bytes came, the manifest says {want}");
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "digest", detail)
    };
    if let Some(have) = body.size_hint().exact().filter(|have| *have != want) {
        return Err(wrong(have));
    }
    let mut incoming = api.vault.incoming().await?;
    while let Some(frame) = next(&mut body).await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        incoming.write(&data).await?;
        if incoming.written() > want {
            return Err(wrong(incoming.written()));
        }
    }
    if incoming.written() != want {
        return Err(wrong(incoming.written()));
    }
    if incoming.digest() != manifest.sealed_sha256 {
        let detail = "the bytes don't have the digest that the manifest says";
        return Err(Error::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "digest",
            detail,
        ));
    }
    Ok(incoming)
}

/// The next piece of a body that has to go on.
async fn next(body: &mut Body) -> Result<Option<Frame<Bytes>>, Error> {
    let broken = |detail| Error::new(StatusCode::BAD_REQUEST, "request", detail);
    match timeout(PIECE_TIME, body.frame()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(_))) => Err(broken("the body broke off")),
        Err(_) => Err(broken("the body came too slowly")),
    }
}

async fn complete(
    api: Api,
    node: Arc<Node>,
    payload: PayloadId,
    incoming: Incoming,
) -> Result<(), Error> {
    let push = push_of(&node)?;
    let _one = push.deciding.lock().await;
    let file = incoming.keep().await?;
    let store = api.rounds.store();
    let completed = store.complete(&node.id, payload, &file, unix_now()).await;
    let deposit = match completed {
        Ok(Some(deposit)) => deposit,
        Ok(None) => {
            api.vault.forget(&file);
            return Err(Error::unknown_payload());
        }
        Err(error) => {
            // It may be on record all the same; what isn't goes at the next start.
            return Err(error.into());
        }
    };
    let mut older = None;
    push.hold(|held| older = held.deposit.replace(Arc::new(deposit)));
    older.inspect(|older| api.vault.forget(&older.file));
    tracing::info!(agent = %node.id, "payload {payload} deposited");
    Ok(())
}

/// The sealed bytes of the current deposit.
pub(super) async fn current(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    let deposit = push_of(&session.node)?.held().deposit;
    let deposit = deposit.ok_or_else(Error::no_payload)?;
    send(&api, &deposit, &headers).await
}

/// The sealed bytes of this deposit, as long as it is the current one.
pub(super) async fn download(
    State(api): State<Api>,
    Path((id, payload)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let session = api.session(&headers, &agent_id(&id)?)?;
    let payload = payload_id(&payload)?;
    let deposit = push_of(&session.node)?.held().deposit;
    let deposit = deposit.filter(|deposit| deposit.manifest.payload_id == payload);
    let deposit = deposit.ok_or_else(Error::unknown_payload)?;
    send(&api, &deposit, &headers).await
}

async fn send(api: &Api, deposit: &Deposit, headers: &HeaderMap) -> Answer {
    let size = deposit.manifest.sealed_bytes;
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(start_of);
    if start.is_some_and(|start| start >= size) {
        let detail = format!("there are {size} bytes");
        let error = Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", detail);
        let mut response = error.into_response();
        put(&mut response, CONTENT_RANGE, &format!("bytes */{size}"));
        return Ok(response);
    }
    let file = match api.vault.read(&deposit.file).await {
        Ok(file) => file,
        // It was replaced since it was looked up.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::unknown_payload());
        }
        Err(error) => return Err(error.into()),
    };
    let left = size - start.unwrap_or(0);
    let body = Body::new(FileBody::from(file, start.unwrap_or(0), left).await?);
    let mut response = body.into_response();
    let octets = "application/octet-stream";
    put(&mut response, CONTENT_TYPE, octets);
    put(&mut response, ACCEPT_RANGES, "bytes");
    put(&mut response, CONTENT_LENGTH, &left.to_string());
    if let Some(start) = start {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {start}-{}/{size}", size - 1);
        put(&mut response, CONTENT_RANGE, &range);
    }
    Ok(response)
}

fn put(response: &mut Response, name: axum::http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The start of `bytes=N-`; every other range is answered with the whole, as HTTP allows.
fn start_of(range: &str) -> Option<u64> {
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    let digits = !start.is_empty() && start.bytes().all(|byte| byte.is_ascii_digit());
    start.parse().ok().filter(|_| digits)
}

/// A part of a file as a body.
struct FileBody {
    file: File,
    left: u64,
    buffer: Box<[u8]>,
}

impl FileBody {
    async fn from(mut file: File, start: u64, left: u64) -> io::Result<Self> {
        file.seek(io::SeekFrom::Start(start)).await?;
        Ok(Self {
            file,
            left,
            buffer: vec![0; PIECE_BYTES].into(),
        })
    }
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = ReadBuf::new(&mut this.buffer);
        match Pin::new(&mut this.file).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let most = usize::try_from(this.left).unwrap_or(usize::MAX);
                let read = buffer.filled();
                let piece = &read[..read.len().min(most)];
                if piece.is_empty() {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                this.left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(piece)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body must bring something in this time.
const PIECE_TIME: Duration = Duration::from_secs(20);

const PIECE_BYTES: usize = 64 << 10;
