//! `keyhalf-agent push` and `provision`: from a configuration to an agent that calls its verifier, and to how that ends.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_core::outbound::{self as core, Mode, Pace, Verify, VerifyError};
use agent_core::payload::zip::Limits;
use agent_core::tpm::Tpm;
use agent_core::wire::route::ApiVersions;
use agent_core::wire::text::Uuid;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{OutboundConfig, RunAs};
use crate::exit::Exit;
use crate::job::{Identity, OutputPolicy};
use crate::landing::{LandingError, Zone};
use crate::memory;
use crate::net::call::Caller;
use crate::net::reach::{Clock, Reach, ReachError, ServerTrust, VerifierStream};
#[cfg(feature = "revocations")]
use crate::outbound::Acting;
use crate::outbound::{Connect, Ending, Enrol, Flow, Link, Running, Terms, provision, push};
use crate::privilege::{self, Account, PrivilegeError};
use crate::register::{Contact, register_once};
#[cfg(feature = "revocations")]
use crate::revocations::Revocations;
use crate::tpm::{HostTpm, TpmError, Use};
use crate::trust::{Pin, PinError, Pinned, verify_manifest};

/// Why nothing was called.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallingError {
    /// The system refuses something that every program may do.
    System(io::Error),
    /// The landing zone can't be used.
    Landing(LandingError),
    /// The agent can't become the user that it is to run as.
    Privilege(PrivilegeError),
    /// The TPM can't be used.
    Tpm(TpmError),
    /// A tenant's certificate can't be read.
    Signer(PinError),
    /// There are more tenant's certificates than a node takes.
    Signers {
        /// How many there are.
        have: usize,
    },
    /// The verifier's certificate or authority can't be read.
    Trust(crate::net::reach::TrustError),
}

impl CallingError {
    /// The exit code that says so.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Tpm(_) => Exit::NoTpm,
            Self::Signer(_) | Self::Signers { .. } | Self::Trust(_) => Exit::Usage,
            Self::System(_) | Self::Landing(_) | Self::Privilege(_) => Exit::Internal,
        }
    }
}

impl fmt::Display for CallingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(f, "the system refuses what the agent needs: {error}"),
            Self::Landing(error) => error.fmt(f),
            Self::Privilege(error) => error.fmt(f),
            Self::Tpm(error) => error.fmt(f),
            Self::Signer(error) => write!(f, "tenant_signer: {error}"),
            Self::Signers { have } => write!(
                f,
                "tenant_signer has {have} certificates, at most {} are taken",
                core::MAX_SIGNERS
            ),
            Self::Trust(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CallingError {}

/// Calls the verifier, once or until a signal comes; the log says how it went, and the exit code too.
#[must_use]
pub fn call(mode: Mode, config: OutboundConfig) -> Exit {
    match run(mode, config) {
        // A service that is told to stop has done what it is for.
        Ok(Ending::Stopped) if mode == Mode::Push => {
            log::info!("stopping");
            Exit::Done
        }
        Ok(ending) => {
            let exit = ending.exit();
            match exit {
                Exit::Done => log::info!("{ending}"),
                _ => log::error!("{ending}"),
            }
            exit
        }
        Err(error) => {
            log::error!("{error}");
            error.exit()
        }
    }
}

fn run(mode: Mode, config: OutboundConfig) -> Result<Ending, CallingError> {
    let began = Instant::now();
    memory::forbid_core_dumps().map_err(CallingError::System)?;
    if !memory::lock_all() {
        log::warn!(
            "memory can't be locked, so secrets could be swapped out: run as root, or raise RLIMIT_MEMLOCK"
        );
    }
    let stop = stop_on_signals().map_err(CallingError::System)?;
    let account = account(&config)?;
    let signers = signers(&config.tenant_signers)?;
    let clock = clock(&config.verifier_trust);
    let image_seconds = image_seconds(&config.verifier_trust);
    let reach = Reach::new(config.verifiers.clone(), &config.verifier_trust, clock)
        .map_err(CallingError::Trust)?;
    let until = began + config.deadline;
    let (sign, hash) = (config.tpm_signing_alg, config.tpm_hash_alg);
    let mut tpm = HostTpm::open_for(Use::Outbound, &config.tcti, sign, hash, until)
        .map_err(CallingError::Tpm)?;
    let agent = identify(&config, &mut tpm)?;
    let size = config.secure_size;
    let logs = config.logs.open();
    let mut zone = Zone::open_for(account.owner(), &config.landing_dir, size)
        .map_err(CallingError::Landing)?;
    privilege::become_user(&account).map_err(CallingError::Privilege)?;
    zone.check_path().map_err(CallingError::Landing)?;

    let deadline = (mode == Mode::Provision).then_some(until);
    let machine = machine(mode, &config, agent.clone(), signers);
    #[cfg(feature = "revocations")]
    let revocations = Revocations::open(&zone, config.revocation.trust());
    #[cfg(feature = "revocations")]
    let rules = config.revocation.rules(&config.landing_dir);
    let flow = Flow {
        link: Link::new(Way::new(reach)).with_logs(logs),
        tpm: &mut tpm,
        verify: BySigner,
        enrol: Registrar::new(&config, agent.clone(), deadline),
        terms: Terms {
            deadline,
            spool: config.spool_dir.clone(),
            image_seconds,
            archives: Limits {
                bytes: zone.size() / 2,
                ..Limits::default()
            },
            script: Running {
                identity: Identity {
                    uuid: agent.as_str(),
                    user: account.name(),
                    home: account.home(),
                },
                timeout: config.payload_script_timeout,
                output: if config.report_script_output {
                    OutputPolicy::Log
                } else {
                    OutputPolicy::Quiet
                },
            },
            stop: &stop,
            #[cfg(feature = "revocations")]
            acting: Some(Acting {
                revocations: &revocations,
                rules: &rules,
            }),
        },
        zone: &mut zone,
    };
    Ok(match mode {
        Mode::Provision => provision(machine, flow),
        Mode::Push => push(machine, flow),
    })
}

/// What the core's machine is told.
fn machine(
    mode: Mode,
    config: &OutboundConfig,
    agent: Uuid,
    signers: Signers,
) -> core::OutboundConfig {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    core::OutboundConfig {
        mode,
        agent,
        sign: config.tpm_signing_alg,
        hash: config.tpm_hash_alg,
        signers,
        counter: config.floor_index,
        // A spool on a disk takes what the disk takes; memory takes what it was given.
        max_sealed_bytes: match &config.spool_dir {
            Some(_) => u64::MAX,
            None => u64::try_from(config.max_payload_size).unwrap_or(u64::MAX),
        },
        boot_time: boot_time(),
        last_good: config.last_good,
        pace: Pace {
            first_ms: millis(config.backoff.initial),
            last_ms: millis(config.backoff.max),
        },
    }
}

fn account(config: &OutboundConfig) -> Result<Account, CallingError> {
    let wanted = match &config.run_as {
        RunAs::User(spec) => Some(spec),
        _ => None,
    };
    privilege::choose(wanted).map_err(CallingError::Privilege)
}

type Signers = heapless::Vec<[u8; 32], { core::MAX_SIGNERS }>;

fn signers(pins: &[Pin]) -> Result<Signers, CallingError> {
    if pins.is_empty() {
        return Ok(Signers::new());
    }
    let pinned = Pinned::read(pins).map_err(CallingError::Signer)?;
    let digests = pinned.digests();
    Signers::from_slice(digests).map_err(|_| CallingError::Signers {
        have: digests.len(),
    })
}

/// The image knows that it is later than its own trust anchors.
fn clock(trust: &ServerTrust) -> Clock {
    not_before(Clock::system(), trust)
}

/// What that is, in seconds since 1970.
fn image_seconds(trust: &ServerTrust) -> u64 {
    not_before(Clock::by(|| UNIX_EPOCH), trust).seconds()
}

fn not_before(clock: Clock, trust: &ServerTrust) -> Clock {
    let files = match trust {
        ServerTrust::Authorities(files) => files.as_slice(),
        ServerTrust::Pinned(_) => &[],
    };
    files
        .iter()
        .fold(clock, |clock, file| clock.not_before(file))
}

fn identify(config: &OutboundConfig, tpm: &mut HostTpm) -> Result<Uuid, CallingError> {
    let mut random = [0; 16];
    tpm.random(&mut random).map_err(CallingError::Tpm)?;
    config
        .uuid
        .resolve(tpm.ek_pem(), random)
        .ok_or(CallingError::System(io::ErrorKind::InvalidData.into()))
}

fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// When this system was started, as far as its clock knows.
fn boot_time() -> u64 {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let uptime = u64::try_from(uptime).unwrap_or(0);
    now.map_or(0, |now| now.as_secs()).saturating_sub(uptime)
}

/// The way to the verifiers.
struct Way {
    reach: Reach,
    host: String,
}

impl Way {
    const fn new(reach: Reach) -> Self {
        Self {
            reach,
            host: String::new(),
        }
    }
}

impl Connect for Way {
    type Stream = VerifierStream;
    type Error = ReachError;

    fn connect(&mut self, until: Instant) -> Result<VerifierStream, ReachError> {
        let stream = self.reach.connect(until)?;
        self.host = stream.server().to_string();
        Ok(stream)
    }

    fn limit(stream: &mut VerifierStream, until: Instant) {
        stream.until(until);
    }

    fn host(&self) -> &str {
        &self.host
    }
}

/// Whether a manifest is its signer's.
struct BySigner;

impl Verify for BySigner {
    fn verify(&self, signer: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        if verify_manifest(signer, message, signature) {
            Ok(())
        } else {
            Err(VerifyError::Mismatch)
        }
    }
}

/// The way to the registrar.
struct Registrar {
    caller: Caller,
    versions: ApiVersions,
    contact: Contact,
    deadline: Option<Instant>,
}

impl Registrar {
    fn new(config: &OutboundConfig, uuid: Uuid, deadline: Option<Instant>) -> Self {
        Self {
            caller: Caller::new(&config.registrar_ip, config.registrar_port),
            versions: config.registrar_api_versions,
            contact: Contact {
                uuid,
                // Nobody calls this node; Keylime's records have a place there all the same.
                ip: NOWHERE.to_owned(),
                port: NO_PORT,
                tls_certificate: "disabled".to_owned(),
            },
            deadline,
        }
    }
}

impl Enrol<HostTpm> for Registrar {
    fn enrol(&mut self, tpm: &mut HostTpm) -> bool {
        if let Some(deadline) = self.deadline {
            self.caller.until(deadline);
        }
        match register_once(&mut self.caller, self.versions, &self.contact, tpm) {
            Ok(()) => {
                log::info!("registered as {}", self.contact.uuid);
                true
            }
            Err(error) => {
                let registrar = self.caller.authority();
                log::warn!("not registered at {registrar}: {error}");
                false
            }
        }
    }
}

/// The address of a node that listens nowhere.
const NOWHERE: &str = "127.0.0.1";
/// Its port: Keylime's for agents, since 0 is none.
const NO_PORT: u16 = 9002;
