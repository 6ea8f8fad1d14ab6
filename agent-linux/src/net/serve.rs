//! The agent's server: a bounded number of connections, nobody who waits for somebody else.

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
use crate::threads;

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
    /// Whom it lets in.
    pub door: Door,
    /// The agent.
    pub shell: Arc<S>,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// Whom a server lets in, and who they are.
pub enum Door {
    /// Who has a certificate that is trusted.
    MutualTls {
        /// How the server shows itself, and whom it trusts.
        tls: Arc<ServerConfig>,
        /// The one client certificate (DER) whose owner may deliver payloads; any trusted client if there is none.
        tenant: Option<Vec<u8>>,
    },
    /// Everyone, over plain HTTP: all of them are this peer.
    #[cfg(feature = "plain-http")]
    Open(Peer),
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

    fn serve(&self, stream: DeadlineStream, seat: &Seat) -> io::Result<()> {
        match &self.door {
            Door::MutualTls { tls, tenant } => {
                let connection = shake_hands(tls, stream)?;
                let certificate = peer_certificate(&connection.0.conn);
                let peer = match tenant {
                    None => Peer::Tenant,
                    Some(tenant) if certificate == Some(tenant) => Peer::Tenant,
                    Some(_) => Peer::Other,
                };
                self.serve_requests(connection, peer, seat)
            }
            #[cfg(feature = "plain-http")]
            Door::Open(peer) => self.serve_requests(stream, *peer, seat),
        }
    }

    fn serve_requests(
        &self,
        connection: impl Connection,
        peer: Peer,
        seat: &Seat,
    ) -> io::Result<()> {
        seat.greeted.store(true, Ordering::Relaxed);
        let mut io = Io(connection);
        let mut buffers = Box::<Buffers>::default();
        loop {
            let has_input = io.0.has_input()? || buffers.has_input();
            let socket = io.0.socket();
            if has_input {
                socket.begin(self.deadlines.request);
            } else {
                socket.rest(self.deadlines.idle, self.deadlines.request);
            }
            let served = serve_one(&mut io, &*self.shell, peer, &mut buffers);
            wipe_stack();
            match served? {
                Served::Keep => {}
                Served::Gone => return Ok(()),
                Served::Close => return io.0.close(),
                Served::CloseUnread => {
                    io.0.close()?;
                    io.0.socket().linger(LINGER);
                    return Ok(());
                }
            }
        }
    }
}

fn shake_hands(tls: &Arc<ServerConfig>, mut stream: DeadlineStream) -> io::Result<TlsStream> {
    let mut connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(TlsStream(StreamOwned::new(connection, stream)))
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
    let seat_of_thread = Arc::clone(&seat);
    let task = move || {
        if let Err(error) = server.serve(stream, &seat_of_thread) {
            log::debug!("a connection ended: {error}");
        }
        seats_of_thread.leave(&seat_of_thread);
    };
    let spawned = threads::spawn("connection", Box::new(task));
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

/// What requests come over, once it is known who sends them.
trait Connection: io::Read + io::Write {
    /// Whether bytes of a request have been read from the socket already.
    fn has_input(&mut self) -> io::Result<bool>;

    /// The socket beneath, for its deadlines.
    fn socket(&mut self) -> &mut DeadlineStream;

    /// Says that nothing more will be sent.
    fn close(&mut self) -> io::Result<()>;
}

#[cfg(feature = "plain-http")]
impl Connection for DeadlineStream {
    fn has_input(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn socket(&mut self) -> &mut DeadlineStream {
        self
    }

    fn close(&mut self) -> io::Result<()> {
        // The end of the socket says it.
        Ok(())
    }
}

/// A TLS connection that sends what was written when it is flushed: head and body of an answer go out together.
struct TlsStream(StreamOwned<ServerConnection, DeadlineStream>);

impl Connection for TlsStream {
    fn has_input(&mut self) -> io::Result<bool> {
        let state = self
            .0
            .conn
            .process_new_packets()
            .map_err(io::Error::other)?;
        Ok(state.plaintext_bytes_to_read() > 0)
    }

    fn socket(&mut self) -> &mut DeadlineStream {
        &mut self.0.sock
    }

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
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// How long the rest of a refused body is read.
const LINGER: Duration = Duration::from_secs(2);
