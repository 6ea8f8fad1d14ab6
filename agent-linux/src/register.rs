//! Registration: tells the registrar who this node is, and proves that its TPM holds both keys. Tried until it works.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::Duration;

use agent_core::drive::Shell;
use agent_core::http::emit::Verb;
use agent_core::tpm::Tpm;
use agent_core::wire::register::{
    Activation, AnswerError, CredentialBlob, MAX_BLOB_BYTES, Registration, version_from_answer,
};
use agent_core::wire::route::{ApiVersions, VERSION_NOT_SUPPORTED};
use agent_core::wire::text::Uuid;

use crate::log::Seconds;
use crate::net::call::{CallError, Caller};

/// What the registrar is told beside what the TPM says.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The agent's identifier.
    pub uuid: Uuid,
    /// Where verifier and tenant reach it.
    pub ip: String,
    /// The port there.
    pub port: u16,
    /// Its TLS certificate, PEM; for an agent without TLS the word that Keylime has for that.
    pub tls_certificate: String,
}

/// Why the agent isn't registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// A request had no answer.
    Call(CallError),
    /// The registrar speaks none of the agent's versions.
    NoCommonVersion {
        /// The agent's.
        ours: ApiVersions,
    },
    /// The registrar refuses this node for good: 403.
    Refused {
        /// Whom it refuses.
        uuid: String,
        /// Which registrar.
        registrar: String,
    },
    /// An answer of another status than 200.
    Status {
        /// What was asked.
        step: &'static str,
        /// The status.
        status: u16,
    },
    /// An answer that can't be read.
    Answer(AnswerError),
    /// The TPM failed, or the credential isn't for its keys.
    Tpm(String),
}

impl RegisterError {
    /// Whether another try can help.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::NoCommonVersion { ours } => write!(
                f,
                "the registrar speaks none of the API versions {ours}: is it a Keylime registrar?"
            ),
            Self::Refused { uuid, registrar } => write!(
                f,
                "the registrar at {registrar} refuses {uuid} (403): it knows this identifier with other keys. \
                 If this node's TPM was replaced, delete the old record first: keyhalf-tenant -c regdelete -u {uuid}"
            ),
            Self::Status { step, status } => {
                write!(f, "the registrar answered {status} to the {step}")
            }
            Self::Answer(error) => error.fmt(f),
            Self::Tpm(error) => write!(f, "the credential could not be activated: {error}"),
        }
    }
}

impl std::error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => Some(error),
            Self::Answer(error) => Some(error),
            _ => None,
        }
    }
}

impl From<CallError> for RegisterError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<AnswerError> for RegisterError {
    fn from(error: AnswerError) -> Self {
        Self::Answer(error)
    }
}

/// Registers, in one of these versions, however long it takes.
///
/// # Errors
/// [`RegisterError::Refused`] alone; everything else is logged and tried again.
pub fn register<S: Shell>(
    registrar: &mut Caller,
    versions: ApiVersions,
    contact: &Contact,
    shell: &S,
) -> Result<(), RegisterError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let mut lend = Shared(shell);
        let error = match attempt(registrar, versions, contact, &mut lend) {
            Ok(()) => {
                log::info!("registered as {}", contact.uuid);
                return Ok(());
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => error,
        };
        let wait = jittered(pause);
        log::warn!(
            "not registered at {}: {error}; next try in {}",
            registrar.authority(),
            Seconds(wait)
        );
        thread::sleep(wait);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Registers with a TPM of one's own, in one try.
///
/// # Errors
/// [`RegisterError`]; unless it [is final](RegisterError::is_final), another try may help.
pub fn register_once<T: Tpm>(
    registrar: &mut Caller,
    versions: ApiVersions,
    contact: &Contact,
    tpm: &mut T,
) -> Result<(), RegisterError> {
    attempt(registrar, versions, contact, &mut Own(tpm))
}

/// Gives the TPM for a moment: nobody else waits for it while the registrar is asked.
trait Lend {
    type Tpm: Tpm;

    fn lend<R>(&mut self, step: impl FnOnce(&mut Self::Tpm) -> R) -> R;
}

struct Shared<'s, S>(&'s S);

impl<S: Shell> Lend for Shared<'_, S> {
    type Tpm = S::Tpm;

    fn lend<R>(&mut self, step: impl FnOnce(&mut S::Tpm) -> R) -> R {
        self.0.with_agent(|_, tpm| step(tpm))
    }
}

struct Own<'t, T>(&'t mut T);

impl<T: Tpm> Lend for Own<'_, T> {
    type Tpm = T;

    fn lend<R>(&mut self, step: impl FnOnce(&mut T) -> R) -> R {
        step(self.0)
    }
}

fn attempt<L: Lend>(
    registrar: &mut Caller,
    versions: ApiVersions,
    contact: &Contact,
    lend: &mut L,
) -> Result<(), RegisterError> {
    let body = registration_body(contact, lend)?;
    let asked = registrar.call(Verb::Get, "/version", "")?;
    let agreed = match asked.status {
        200 => version_from_answer(asked.body, versions)?,
        _ => None,
    };
    // A registrar that doesn't say what it speaks is tried with everything, the newest first.
    let candidates = agreed.map_or_else(|| versions.iter().rev().collect(), |one| vec![one]);
    for version in candidates {
        let path = format!("/v{version}/agents/{}", contact.uuid);
        let answer = registrar.call(Verb::Post, &path, &body)?;
        match answer.status {
            200 => {
                let tag = activate(answer.body, contact, lend)?;
                let status = registrar.call(Verb::Put, &path, &tag)?.status;
                let step = "activation";
                return match status {
                    200 => Ok(()),
                    _ => Err(RegisterError::Status { step, status }),
                };
            }
            403 => {
                return Err(RegisterError::Refused {
                    uuid: contact.uuid.to_string(),
                    registrar: registrar.authority().to_owned(),
                });
            }
            404 => {}
            400 if contains(answer.body, VERSION_NOT_SUPPORTED) => {}
            status => {
                let step = "registration";
                return Err(RegisterError::Status { step, status });
            }
        }
    }
    Err(RegisterError::NoCommonVersion { ours: versions })
}

fn registration_body<L: Lend>(contact: &Contact, lend: &mut L) -> Result<String, RegisterError> {
    let mut certificate = vec![0; MAX_CERTIFICATE_BYTES];
    let mut body = String::new();
    lend.lend(|tpm| {
        let found = tpm.ek_certificate(&mut certificate);
        let length = found.map_err(|error| RegisterError::Tpm(error.to_string()))?;
        let identity = tpm.identity();
        let registration = Registration {
            ak_public: &identity.ak_public,
            ek_public: &identity.ek_public,
            ek_certificate: length.and_then(|length| certificate.get(..length)),
            ip: &contact.ip,
            port: contact.port,
            tls_certificate: &contact.tls_certificate,
        };
        // A String takes whatever is written.
        let _ = registration.write(&mut body);
        Ok(body)
    })
}

/// Opens the credential and makes the body that proves it.
fn activate<L: Lend>(
    answer: &[u8],
    contact: &Contact,
    lend: &mut L,
) -> Result<String, RegisterError> {
    let mut buffer = [0; MAX_BLOB_BYTES];
    let blob = CredentialBlob::from_answer(answer, &mut buffer)?;
    let opened = lend
        .lend(|tpm| tpm.activate_credential(blob.id_object, blob.secret))
        .map_err(|error| RegisterError::Tpm(error.to_string()))?;
    let credential = opened.bytes.as_ref().get(..opened.len).unwrap_or_default();
    let mut body = String::new();
    // A String takes whatever is written.
    let _ = Activation::new(credential, &contact.uuid).write(&mut body);
    Ok(body)
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Between half and all of it, so that a fleet that starts together doesn't knock together. Not secret.
fn jittered(pause: Duration) -> Duration {
    let dice = RandomState::new().build_hasher().finish() % 512;
    pause / 2 + pause / 1024 * u32::try_from(dice).unwrap_or(0)
}

/// The first pause between two tries; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Room for an EK certificate; vendors' take 800 to 1500 bytes.
const MAX_CERTIFICATE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within() {
        for _ in 0..1000 {
            let wait = jittered(LAST_PAUSE);
            assert!(wait >= LAST_PAUSE / 2 && wait <= LAST_PAUSE, "{wait:?}");
        }
    }
}
