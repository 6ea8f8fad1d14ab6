//! What a request carries: bytes that are there, or a file's that are read while they are sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};

/// How much of an upload is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How far an upload is: shared between the body that is sent and who watches it.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicU64>);

impl Sent {
    /// Bytes that were handed to the connection.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Reads a body into one buffer: its frames, and one buffer of them all beside, would be twice as much.
///
/// # Errors
/// The body's.
pub async fn in_one_piece<B>(mut body: B) -> Result<Bytes, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

/// A request's body.
pub(super) enum Outgoing {
    /// All of it.
    Whole(Option<Bytes>),
    /// What a reader gives, of a size that is known before.
    Read {
        reader: Box<dyn io::Read + Send>,
        left: u64,
        sent: Sent,
    },
}

impl Outgoing {
    /// The reader must give as many bytes as `length` says; fewer break the request off.
    pub(super) fn read(reader: Box<dyn io::Read + Send>, length: u64, sent: Sent) -> Self {
        Self::Read {
            reader,
            left: length,
            sent,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (reader, left, sent) = match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Read { left: 0, .. } => return Poll::Ready(None),
            Self::Read { reader, left, sent } => (reader, left, sent),
        };
        let wanted = usize::try_from(*left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let mut chunk = vec![0; wanted];
        if let Err(error) = reader.read_exact(&mut chunk) {
            return Poll::Ready(Some(Err(error)));
        }
        *left -= wanted as u64;
        sent.add(wanted);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Read { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Read { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
