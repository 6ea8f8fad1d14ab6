//! `keyhalf-agent serve`: from a configuration to an agent that listens, is registered, and stops when it is told to.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::agent::AgentConfig;
#[cfg(feature = "plain-http")]
use agent_core::agent::Peer;
use agent_core::payload::zip::Limits;
use agent_core::tpm::Tpm;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{Config, KEYLIMES_USER, RunAs, Transport};
use crate::fence::Fence;
use crate::identity::{CertificateError, TlsIdentity};
use crate::job::OutputPolicy;
use crate::landing::{LandingError, Zone};
use crate::logs::Shelves;
use crate::mailbox::Mailbox;
use crate::memory;
use crate::net::call::Caller;
use crate::net::serve::{Deadlines, Door, MAX_CONNECTIONS, Server};
use crate::net::tls::{ClientAuthorities, TlsError, server_config};
use crate::node::Node;
use crate::privilege::{self, Account, PrivilegeError};
use crate::queue::queue;
use crate::register::{Contact, RegisterError, register};
use crate::revocations::Revocations;
use crate::threads;
use crate::tpm::{HostTpm, TpmError};
use crate::worker::{ScriptRules, Stop, Worker};

/// Why the agent can't serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The system refuses something that every program may do.
    System(io::Error),
    /// The address can't be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The landing zone can't be used.
    Landing(LandingError),
    /// The agent can't become the user that it is to run as.
    Privilege(PrivilegeError),
    /// The TPM can't be used.
    Tpm(TpmError),
    /// The agent's certificate can't be made.
    Certificate(CertificateError),
    /// TLS can't be set up.
    Tls(TlsError),
    /// `tenant_cert` can't be read.
    TenantCertificate(PathBuf),
    /// The registrar refuses this node.
    Register(RegisterError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => write!(f, "the system refuses what the agent needs: {error}"),
            Self::Listen { address, error } => write!(
                f,
                "can't listen on {address}: {error}; set --ip and --port to an address of this machine that is free"
            ),
            Self::Landing(error) => error.fmt(f),
            Self::Privilege(error) => error.fmt(f),
            Self::Tpm(error) => error.fmt(f),
            Self::Certificate(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::TenantCertificate(path) => {
                write!(f, "tenant_cert {} is no certificate in PEM", path.display())
            }
            Self::Register(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) | Self::Listen { error, .. } => Some(error),
            Self::Landing(error) => Some(error),
            Self::Privilege(error) => Some(error),
            Self::Tpm(error) => Some(error),
            Self::Certificate(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Register(error) => Some(error),
            Self::TenantCertificate(_) => None,
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`]: what keeps the agent from serving, found at its start or, by the registrar's refusal, later.
pub fn serve(config: &Arc<Config>) -> Result<(), RunError> {
    memory::forbid_core_dumps().map_err(RunError::System)?;
    if !memory::lock_all() {
        log::warn!(
            "memory can't be locked, so secrets could be swapped out: run as root, or raise RLIMIT_MEMLOCK"
        );
    }
    let endings = Arc::<Mailbox<Ending>>::default();
    end_on_signals(Arc::clone(&endings)).map_err(RunError::System)?;
    let (config, stop) = (Arc::clone(config), Arc::<Stop>::default());
    let (work, sender) = (Arc::clone(&stop), Arc::clone(&endings));
    // The TPM may take seconds: a thread of its own, so that a signal ends the agent at once all the same.
    let task = move || {
        if let Err(error) = start(&config, work) {
            sender.put(Err(error));
        }
    };
    threads::spawn("start", Box::new(task)).map_err(RunError::System)?;
    let ending = endings.take(None).unwrap_or(Ok(()));
    if ending.is_ok() {
        log::info!("stopping");
    }
    stop.stop(STOP_WITHIN);
    ending
}

/// How the agent ends: by a signal, or by an error.
type Ending = Result<(), RunError>;

fn start(config: &Config, stop: Arc<Stop>) -> Result<(), RunError> {
    let account = choose_account(config)?;
    let address = SocketAddr::new(config.ip, config.port);
    // From here on clients wait instead of being refused.
    let listener =
        TcpListener::bind(address).map_err(|error| RunError::Listen { address, error })?;
    let guests = Guests::read(config)?;
    let (owner, size) = (account.owner(), config.secure_size);
    let zone = Zone::open_for(owner, &config.keylime_dir, size).map_err(RunError::Landing)?;
    let mut tpm = HostTpm::open(&config.tcti, config.tpm_signing_alg, config.tpm_hash_alg)
        .map_err(RunError::Tpm)?;
    let (contact, door) = identify(config, guests, &mut tpm)?;
    let logs = Shelves::open(&config.logs, MAX_CONNECTIONS);
    // All that takes root is open.
    privilege::become_user(&account).map_err(RunError::Privilege)?;
    zone.check_path().map_err(RunError::Landing)?;

    let (inlet, work) = queue();
    let agent = AgentConfig {
        uuid: contact.uuid.clone(),
        versions: config.api_versions,
        bank: config.tpm_hash_alg,
        scheme: config.tpm_signing_alg,
        ak_handle: NO_HANDLE,
        max_sealed_bytes: config.max_payload_size,
        max_unpacked_bytes: zone.size() / 2,
    };
    let revocations = Arc::new(Revocations::open(&zone, config.revocation.trust()));
    let fenced = Arc::clone(&revocations);
    let node = Node::new(agent, tpm, inlet, Arc::clone(&revocations)).with_logs(logs);
    let node = Arc::new(node);
    let parts = (Arc::clone(&node), revocations);
    let worker = worker(config, &contact, account, parts, zone, stop);
    let server = Server {
        door,
        shell: Arc::clone(&node),
        deadlines: Deadlines::for_payload(config.max_payload_size),
    };
    log::info!("listening on {address}");
    let task = Box::new(move || worker.run(&work));
    threads::spawn("work", task).map_err(RunError::System)?;
    let task = move || {
        fenced.fence().report();
        server.run(&listener);
    };
    threads::spawn("listen", Box::new(task)).map_err(RunError::System)?;

    match config.registrar_ip.parse::<IpAddr>() {
        Ok(_) => Fence::around_everything().report(),
        Err(_) => Fence::but_name_resolution().report(),
    }
    let mut registrar = Caller::new(&config.registrar_ip, config.registrar_port);
    let versions = config.registrar_api_versions;
    register(&mut registrar, versions, &contact, &*node).map_err(RunError::Register)
}

/// Whom the agent is to be, found before anything is made or opened.
fn choose_account(config: &Config) -> Result<Account, RunError> {
    let wanted = match &config.run_as {
        RunAs::AsStarted => None,
        RunAs::KeylimesDefault => {
            log::info!(
                "run_as has Keylime's default {KEYLIMES_USER}: the agent stays the user that it was started as,                  because scripts as Keylime documents them need root; --run-as {KEYLIMES_USER} or                  KEYHALF_RUN_AS={KEYLIMES_USER} makes it that user"
            );
            None
        }
        RunAs::User(spec) => Some(spec),
    };
    privilege::choose(wanted).map_err(RunError::Privilege)
}

/// What does the agent's work, by the operator's rules.
fn worker(
    config: &Config,
    contact: &Contact,
    account: Account,
    (node, revocations): (Arc<Node<HostTpm>>, Arc<Revocations>),
    zone: Zone,
    stop: Arc<Stop>,
) -> Worker<HostTpm> {
    Worker {
        node,
        revocations,
        archives: config.extract_payload_zip.then(|| Limits {
            bytes: zone.size() / 2,
            ..Limits::default()
        }),
        plain_file: config.dec_payload_file.clone(),
        zone,
        uuid: contact.uuid.to_string(),
        account,
        script: ScriptRules {
            name: config.payload_script.clone(),
            timeout: config.payload_script_timeout,
        },
        actions: config.revocation.rules(&config.keylime_dir),
        output: if config.report_script_output {
            OutputPolicy::Log
        } else {
            OutputPolicy::Quiet
        },
        stop,
    }
}

/// Who may come, read before anything that takes time.
enum Guests {
    /// Clients of these authorities; if a certificate is given, its owner alone may deliver payloads.
    Certified(ClientAuthorities, Option<Vec<u8>>),
    /// Everyone, taken for this peer.
    #[cfg(feature = "plain-http")]
    All(Peer),
}

impl Guests {
    fn read(config: &Config) -> Result<Self, RunError> {
        match config.transport {
            Transport::MutualTls => {
                let clients = ClientAuthorities::read(&config.trusted_client_ca);
                let clients = clients.map_err(RunError::Tls)?;
                Ok(Self::Certified(clients, tenant_certificate(config)?))
            }
            #[cfg(feature = "plain-http")]
            Transport::PlainHttp(peer) => {
                log::warn!(
                    "PLAIN HTTP: enable_agent_mtls is off, so anyone who reaches this agent can ask it, and read what others ask{}",
                    match peer {
                        Peer::Tenant =>
                            "; enable_insecure_payload is on, so anyone can have it run a script as root",
                        _ => "",
                    }
                );
                Ok(Self::All(peer))
            }
        }
    }

    /// The door that lets them in, and the certificate that the registrar is told of.
    fn door(self, identity: &TlsIdentity) -> Result<(Door, String), RunError> {
        match self {
            Self::Certified(clients, tenant) => {
                let tls = server_config(identity, &clients).map_err(RunError::Tls)?;
                Ok((Door::MutualTls { tls, tenant }, identity.pem().to_owned()))
            }
            #[cfg(feature = "plain-http")]
            Self::All(peer) => Ok((Door::Open(peer), "disabled".to_owned())),
        }
    }
}

/// Who the agent is: what the registrar is told, and the door that its certificate stands at.
fn identify(
    config: &Config,
    guests: Guests,
    tpm: &mut HostTpm,
) -> Result<(Contact, Door), RunError> {
    let mut random = [0; 16];
    tpm.random(&mut random).map_err(RunError::Tpm)?;
    let uuid = config
        .uuid
        .resolve(tpm.ek_pem(), random)
        .ok_or(RunError::System(io::ErrorKind::InvalidData.into()))?;
    let seed = tpm.tls_seed().map_err(RunError::Tpm)?;
    let identity =
        TlsIdentity::derive(&seed, &uuid, &config.contact_ip).map_err(RunError::Certificate)?;
    let (door, tls_certificate) = guests.door(&identity)?;
    let contact = Contact {
        uuid,
        ip: config.contact_ip.clone(),
        port: config.contact_port,
        tls_certificate,
    };
    Ok((contact, door))
}

fn tenant_certificate(config: &Config) -> Result<Option<Vec<u8>>, RunError> {
    config
        .tenant_cert
        .as_ref()
        .map(|path| {
            CertificateDer::from_pem_file(path)
                .map(|certificate| certificate.to_vec())
                .map_err(|_| RunError::TenantCertificate(path.clone()))
        })
        .transpose()
}

fn end_on_signals(ending: Arc<Mailbox<Ending>>) -> io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, write)?;
    let task = move || {
        if read.read_exact(&mut [0]).is_ok() {
            ending.put(Ok(()));
        }
    };
    threads::spawn("signals", Box::new(task))
}

/// The AK is a primary key that is made anew: it has no handle of its own.
const NO_HANDLE: u32 = 0;
/// How long the end of the agent waits for the end of a script; service managers and users expect a second in all.
const STOP_WITHIN: Duration = Duration::from_millis(800);

#[cfg(all(test, feature = "plain-http"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use agent_core::secret::Secret;
    use agent_core::wire::text::Uuid;

    use super::*;

    #[test]
    fn without_tls_the_registrar_is_told_so() {
        let uuid = Uuid::parse("d432fbb3").unwrap();
        let identity = TlsIdentity::derive(&Secret::copy_of(&[7; 32]), &uuid, "127.0.0.1").unwrap();
        let (door, certificate) = Guests::All(Peer::Unknown).door(&identity).unwrap();
        assert!(matches!(door, Door::Open(Peer::Unknown)));
        assert_eq!(certificate, "disabled");
    }
}
