//! The agent's server: mutual TLS, a bounded number of connections, nobody who waits for somebody else.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use agent_core::agent::Peer;
use agent_core::drive::{Buffers, Served, Shell, serve_one};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::stream::{DeadlineStream, Io};
use super::tls::peer_certificate;
use crate::memory::wipe_stack;

/// How long each part of a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the connection to the end of the handshake.
    pub handshake: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// From a request's first byte to its answer's last.
    pub request: Duration,
}

impl Deadlines {
    /// Deadlines that let a payload of this size through a slow network (64 KiB a second).
    #[must_use]
    pub fn for_payload(bytes: usize) -> Self {
        let transfer = u64::try_from(bytes / (64 * 1024)).unwrap_or(u64::MAX);
        Self {
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(120),
            request: Duration::from_secs(transfer.saturating_add(30)),
        }
    }
}

/// What a server needs.
pub struct Server<S> {
    /// How it shows itself, and whom it lets in.
    pub tls: Arc<ServerConfig>,
    /// The agent.
    pub shell: Arc<S>,
    /// The one client certificate (DER) whose owner may deliver payloads; any trusted client if there is none.
    pub tenant: Option<Vec<u8>>,
    /// How long things may take.
    pub deadlines: Deadlines,
}

impl<S: Shell + Send + Sync + 'static> Server<S> {
    /// Serves for ever.
    pub fn run(self, listener: &TcpListener) -> ! {
        let server = Arc::new(self);
        let seats = Arc::new(Seats::default());
        loop {
            match listener.accept() {
                Ok((socket, _)) => admit(&server, &seats, socket),
                Err(error) => {
                    // Out of descriptors or memory: what is served now has to end first.
                    log::warn!("a connection could not be accepted: {error}");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn serve(&self, mut stream: DeadlineStream, seat: &Seat) -> io::Result<()> {
        let mut connection =
            ServerConnection::new(Arc::clone(&self.tls)).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        seat.greeted.store(true, Ordering::Relaxed);
        let peer = match (&self.tenant, peer_certificate(&connection)) {
            (None, _) => Peer::Tenant,
            (Some(tenant), Some(certificate)) if tenant == certificate => Peer::Tenant,
            (Some(_), _) => Peer::Other,
        };
        let mut io = Io(TlsStream(StreamOwned::new(connection, stream)));
        let mut buffers = Box::<Buffers>::default();
        loop {
            let TlsStream(StreamOwned { conn, sock }) = &mut io.0;
            let state = conn.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 || buffers.has_input() {
                sock.begin(self.deadlines.request);
            } else {
                sock.rest(self.deadlines.idle, self.deadlines.request);
            }
            let served = serve_one(&mut io, &*self.shell, peer, &mut buffers);
            wipe_stack();
            match served? {
                Served::Keep => {}
                Served::Gone => return Ok(()),
                Served::Close => return io.0.close(),
                Served::CloseUnread => {
                    io.0.close()?;
                    io.0.0.sock.linger(LINGER);
                    return Ok(());
                }
            }
        }
    }
}

fn admit<S: Shell + Send + Sync + 'static>(
    server: &Arc<Server<S>>,
    seats: &Arc<Seats>,
    socket: TcpStream,
) {
    let seated = DeadlineStream::new(socket, server.deadlines.handshake)
        .and_then(|stream| Ok((seats.take(&stream)?, stream)));
    let (seat, stream) = match seated {
        Ok(seated) => seated,
        Err(error) => return log::warn!("a connection could not be served: {error}"),
    };
    let (server, seats_of_thread) = (Arc::clone(server), Arc::clone(seats));
    let name = "connection".to_owned();
    let seat_of_thread = Arc::clone(&seat);
    let spawned = thread::Builder::new()
        .name(name)
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let Err(error) = server.serve(stream, &seat_of_thread) {
                log::debug!("a connection ended: {error}");
            }
            seats_of_thread.leave(&seat_of_thread);
        });
    if let Err(error) = spawned {
        log::warn!("a connection could not be served: {error}");
        seats.leave(&seat);
    }
}

/// The places of open connections.
#[derive(Default)]
struct Seats(Mutex<Vec<Arc<Seat>>>);

/// One connection's place.
struct Seat {
    socket: TcpStream,
    greeted: AtomicBool,
    busy: Arc<AtomicBool>,
}

impl Seats {
    /// A place for a new connection. If all are taken, the oldest that hasn't shaken hands yet has to go, else the oldest
    /// that rests between requests.
    ///
    /// # Errors
    /// All are at work.
    fn take(&self, stream: &DeadlineStream) -> io::Result<Arc<Seat>> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.len() >= MAX_CONNECTIONS {
            let strange = |seat: &Arc<Seat>| !seat.greeted.load(Ordering::Relaxed);
            let resting = |seat: &Arc<Seat>| !seat.busy.load(Ordering::Relaxed);
            let leaver = seats
                .iter()
                .position(strange)
                .or_else(|| seats.iter().position(resting))
                .ok_or_else(|| io::Error::other("all connections are at work"))?;
            let _ = seats.remove(leaver).socket.shutdown(Shutdown::Both);
        }
        let seat = Arc::new(Seat {
            socket: stream.socket()?,
            greeted: AtomicBool::new(false),
            busy: stream.busy(),
        });
        seats.push(Arc::clone(&seat));
        Ok(seat)
    }

    fn leave(&self, seat: &Arc<Seat>) {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|other| !Arc::ptr_eq(other, seat));
    }
}

/// A TLS connection that sends what was written when it is flushed: head and body of an answer go out together.
struct TlsStream(StreamOwned<ServerConnection, DeadlineStream>);

impl TlsStream {
    fn close(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        io::Write::flush(&mut self.0)
    }
}

impl io::Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.conn.writer().write(bytes)? {
            // Its buffer is full.
            0 => self.0.write(bytes),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Connections at a time: verifier, tenant, and room for the curious.
const MAX_CONNECTIONS: usize = 16;
/// Stack of a connection's thread; what isn't touched takes no memory.
const STACK_BYTES: usize = 256 * 1024;
/// How long the rest of a refused body is read.
const LINGER: Duration = Duration::from_secs(2);
