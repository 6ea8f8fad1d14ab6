//! The wire between a TPM and its users: one command at a time, counted and timed.
//!
//! swtpm serves one connection. The bus lets the agent stay connected while the scenario extends a PCR, knows how long
//! the TPM itself took, and can break in a chosen way.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Command codes of TPM 2.0 part 2, table 12, as far as scenarios ask for them.
pub mod code {
    /// `TPM2_CreatePrimary`.
    pub const CREATE_PRIMARY: u32 = 0x131;
    /// `TPM2_ActivateCredential`.
    pub const ACTIVATE_CREDENTIAL: u32 = 0x147;
    /// `TPM2_Quote`.
    pub const QUOTE: u32 = 0x158;
    /// `TPM2_RSA_Decrypt`.
    pub const RSA_DECRYPT: u32 = 0x159;
    /// `TPM2_FlushContext`.
    pub const FLUSH_CONTEXT: u32 = 0x165;
    /// `TPM2_PCR_Extend`.
    pub const PCR_EXTEND: u32 = 0x182;
}

/// A command or response starts with tag (2 bytes), size (4) and code (4).
const HEADER_BYTES: usize = 10;

/// libtpms takes commands of up to 4096 bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

/// What the TPM was asked, and how long it took.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    count: HashMap<u32, u32>,
    time: Duration,
}

impl Tally {
    /// How often the command `code` was sent.
    pub fn count(&self, code: u32) -> u32 {
        self.count.get(&code).copied().unwrap_or(0)
    }

    /// The TPM's own time for all commands.
    pub fn time(&self) -> Duration {
        self.time
    }
}

/// The way to one TPM.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    tpm: Option<UnixStream>,
    tally: Tally,
}

impl Bus {
    /// A bus that takes commands at `listener`. No TPM is on it yet.
    pub fn new(listener: TcpListener) -> Self {
        let bus = Self {
            shared: Arc::new(Mutex::new(Shared {
                tpm: None,
                tally: Tally::default(),
            })),
        };
        let serving = bus.clone();
        thread::spawn(move || {
            for user in listener.incoming().flatten() {
                let bus = serving.clone();
                thread::spawn(move || bus.serve(user));
            }
        });
        bus
    }

    /// Puts a TPM on the bus, or takes it off.
    pub fn attach(&self, tpm: Option<UnixStream>) {
        self.lock().tpm = tpm;
    }

    /// Sends a command, and returns the TPM's response.
    ///
    /// # Errors
    /// There is no TPM, or it hung up.
    pub fn transact(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut shared = self.lock();
        let tpm = shared.tpm.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let asked = Instant::now();
        tpm.write_all(command)?;
        let response = read_message(tpm)?;
        shared.tally.time += asked.elapsed();
        *shared.tally.count.entry(code_of(command)).or_default() += 1;
        Ok(response)
    }

    /// What was asked so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// Passes on what `user` asks until it hangs up or the TPM is gone.
    fn serve(&self, mut user: TcpStream) {
        let _slower_without = user.set_nodelay(true);
        while let Ok(response) = read_message(&mut user).and_then(|command| self.transact(&command))
        {
            if user.write_all(&response).is_err() {
                break;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER_BYTES];
    from.read_exact(&mut message)?;
    let size = u32::from_be_bytes([message[2], message[3], message[4], message[5]]);
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&size) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(size, 0);
    from.read_exact(&mut message[HEADER_BYTES..])?;
    Ok(message)
}

/// The command code of a command, or the response code of a response.
pub fn code_of(message: &[u8]) -> u32 {
    message
        .get(6..HEADER_BYTES)
        .and_then(|code| code.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}
