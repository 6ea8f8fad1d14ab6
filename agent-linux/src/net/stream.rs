//! A socket whose reads and writes end at a deadline, whatever the other side does.

use std::io::{self, Read, Seek, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A socket with a deadline for everything until the next one is set.
pub struct DeadlineStream {
    socket: TcpStream,
    deadline: Instant,
    then: Option<Duration>,
    busy: Arc<AtomicBool>,
}

impl DeadlineStream {
    /// Sends without Nagle's delay; everything has to be over within `limit`.
    ///
    /// # Errors
    /// The socket's.
    pub fn new(socket: TcpStream, limit: Duration) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            deadline: Instant::now() + limit,
            then: None,
            busy: Arc::default(),
        })
    }

    /// The other side may be silent for `idle`; from its next byte on, everything has to be over within `request`.
    pub fn rest(&mut self, idle: Duration, request: Duration) {
        self.deadline = Instant::now() + idle;
        self.then = Some(request);
        self.busy.store(false, Ordering::Relaxed);
    }

    /// A request has begun: everything has to be over within `request`.
    pub fn begin(&mut self, request: Duration) {
        self.limit(request);
        self.busy.store(true, Ordering::Relaxed);
    }

    /// Everything from now on has to be over within `limit`.
    pub fn limit(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
        self.then = None;
    }

    /// Whether a request is on its way: from its first byte to the next [`DeadlineStream::rest`].
    #[must_use]
    pub fn busy(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.busy)
    }

    /// Another handle of the socket, to end the connection from outside.
    ///
    /// # Errors
    /// The system's: out of descriptors.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.socket.try_clone()
    }

    /// Ends what is sent, then reads and throws away what still comes: a peer in the middle of sending sees the answer, not
    /// a reset connection.
    pub fn linger(&mut self, limit: Duration) {
        self.limit(limit);
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut waste = [0; 4096];
        while matches!(self.read(&mut waste), Ok(1..)) {}
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut patience = self.left()?;
        if self.busy.load(Ordering::Relaxed) {
            patience = patience.min(SILENCE);
        }
        self.socket.set_read_timeout(Some(patience))?;
        let read = self.socket.read(buffer).map_err(timed_out)?;
        if read > 0
            && let Some(request) = self.then.take()
        {
            self.begin(request);
        }
        Ok(read)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes).map_err(timed_out)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write_vectored(pieces).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long the other side may send nothing in the middle of a request: who stops there holds the place of a payload.
const SILENCE: Duration = Duration::from_secs(10);

/// A socket's timeout looks like a socket that would block, which TLS takes for "later".
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A stream, or a file, as the agent's core drives it.
pub struct Io<S>(pub S);

impl<S> embedded_io::ErrorType for Io<S> {
    type Error = io::Error;
}

impl<S: Read> embedded_io::Read for Io<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl<S: Write> embedded_io::Write for Io<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            done => done,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Seek> embedded_io::Seek for Io<S> {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to.into())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, there)
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (here, _there) = pair();
        let mut stream = DeadlineStream::new(here, Duration::from_millis(20)).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn drips_end_at_the_deadline() {
        let (here, mut there) = pair();
        let mut stream = DeadlineStream::new(here, Duration::from_secs(5)).unwrap();
        stream.rest(Duration::from_secs(5), Duration::from_millis(50));
        let dripping = std::thread::spawn(move || while there.write_all(b"a").is_ok() {});
        let start = Instant::now();
        let error = loop {
            match stream.read(&mut [0]) {
                Ok(read) => assert!(read == 1 && stream.busy().load(Ordering::Relaxed)),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(4));
        drop(stream);
        dripping.join().unwrap();
    }
}
