//! A TPM with the agent's keys made.
//!
//! Nothing stays loaded between two calls: keys are made once and live as saved contexts in memory, sessions are passwords or
//! last for one command. So a bare software TPM with its three places is enough, and behind a resource manager little is
//! swapped. Each path, errors included, flushes what it loaded.

use std::thread::sleep;
use std::time::{Duration, Instant};

use agent_core::secret::Secret;
use agent_core::tpm::{Identity, Opened, SignedQuote, Tpm};
use agent_core::wire::quote::{Digest, HashAlg, PcrMask, PcrValues, SignAlg};

use super::activation;
use super::commands::Commands;
use super::error::TpmError;
use super::key::Key;
use super::name::TctiName;
use super::nv;
use super::pcr;
use super::pem;
use super::room::{TRANSIENT_FIRST, has_handle, with_room};
use super::template::{EkKind, Template};
use super::value::sized;

/// The agent's TPM, by one way to it.
pub struct NodeTpm<C: Commands> {
    pub(super) tpm: C,
    ek_kind: Option<EkKind>,
    ek: Key<C>,
    pub(super) ak: Key<C>,
    transport: Option<Key<C>>,
    pub(super) storage: Option<Key<C>>,
    identity: Identity,
    ek_pem: String,
}

/// What the TPM is opened for, which says what keys are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Key halves come, so there is a transport key.
    Pull,
    /// The agent calls its verifier: no RSA key is made for that, and [`Identity::transport_pem`] is empty.
    Outbound,
}

impl<C: Commands> NodeTpm<C> {
    /// Opens the TPM and makes the keys of an agent that waits for its verifier: EK, AK with this scheme and hash, transport
    /// key.
    ///
    /// # Errors
    /// As [`NodeTpm::open_for`].
    ///
    /// # Cost
    /// Two RSA keys: 50 to 300 ms on a software TPM, seconds on some others.
    pub fn open(name: &TctiName, sign: SignAlg, hash: HashAlg) -> Result<Self, TpmError> {
        Self::open_for(Use::Pull, name, sign, hash, Instant::now())
    }

    /// Opens the TPM, waiting until this moment for it to appear, and makes the keys that this use takes: EK, AK with this
    /// scheme and hash, and for [`Use::Pull`] the transport key.
    ///
    /// The EK is the one with a certificate in NV, RSA-2048 first, and P-256 if there is none; one that was made persistent is
    /// used as it is.
    ///
    /// # Errors
    /// The TPM doesn't answer, or not as it should; [`TpmError::EndorsementPassword`].
    ///
    /// # Cost
    /// Each RSA key takes 20 to 150 ms on a software TPM, seconds on some others; [`Use::Outbound`] with a P-256 EK and ECDSA
    /// makes none.
    pub fn open_for(
        purpose: Use,
        name: &TctiName,
        sign: SignAlg,
        hash: HashAlg,
        until: Instant,
    ) -> Result<Self, TpmError> {
        let mut tpm: C = wake_until(name, until)?;
        let ek_kind = certified_ek(&mut tpm)?;
        let kind = ek_kind.unwrap_or(EkKind::P256);
        let template = Template::endorsement(kind);
        let ek = match Key::persistent(&mut tpm, EK, kind.persistent_handle(), &template)? {
            Some(key) => key,
            None => Key::create(&mut tpm, EK, template)?,
        };
        let ak = Template::attestation(sign, hash);
        let ak = Key::create(&mut tpm, "attestation key", ak)?;
        let transport = match purpose {
            Use::Pull => Some(Key::create(
                &mut tpm,
                "transport key",
                Template::transport(),
            )?),
            Use::Outbound => None,
        };
        let transport_pem = transport.as_ref().map(Key::pem).transpose()?;
        let identity = Identity {
            ek_public: ek.public().clone(),
            ak_public: ak.public().clone(),
            transport_pem: transport_pem
                .unwrap_or_default()
                .parse()
                .map_err(|_| pem::TOO_LONG)?,
        };
        let ek_pem = ek.pem()?;
        Ok(Self {
            tpm,
            ek_kind,
            ek,
            ak,
            transport,
            storage: None,
            identity,
            ek_pem,
        })
    }

    /// The EK's `SubjectPublicKeyInfo` in PEM, as OpenSSL writes it.
    #[must_use]
    pub fn ek_pem(&self) -> &str {
        &self.ek_pem
    }

    /// What the agent's TLS key is derived from: the TPM's HMAC over a fixed text, the same at each start and known to no
    /// other TPM. `TPM2_Clear` changes it.
    ///
    /// # Errors
    /// The TPM's.
    pub fn tls_seed(&mut self) -> Result<Secret<32>, TpmError> {
        let mut key = Key::create(&mut self.tpm, "TLS key", Template::tls())?;
        with_room(&mut self.tpm, |tpm| {
            key.with(tpm, |tpm, key| tpm.hmac(key, TLS_SEED_TEXT))
        })
    }
}

impl<C: Commands> Tpm for NodeTpm<C> {
    type Error = TpmError;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TpmError> {
        self.ek_kind
            .map(|kind| nv::read_certificate(&mut self.tpm, kind.certificate_index(), out))
            .transpose()
    }

    fn activate_credential(&mut self, id_object: &[u8], secret: &[u8]) -> Result<Opened, TpmError> {
        let id_object = sized("TPM2B_ID_OBJECT", id_object)?;
        let secret = sized("TPM2B_ENCRYPTED_SECRET", secret)?;
        let Self { tpm, ek, ak, .. } = self;
        with_room(tpm, |tpm| {
            ek.with(tpm, |tpm, ek| {
                ak.with(tpm, |tpm, ak| {
                    activation::activate(tpm, ek, ak, id_object, secret)
                })
            })
        })
    }

    fn quote(
        &mut self,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, TpmError> {
        at_most_a_nonce("the nonce", nonce)?;
        let Self { tpm, ak, .. } = self;
        with_room(tpm, |tpm| {
            ak.with(tpm, |tpm, ak| tpm.quote(ak, nonce, bank, pcrs))
        })
    }

    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<PcrValues, TpmError> {
        pcr::read(&mut self.tpm, bank, pcrs)
    }

    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &Digest) -> Result<(), TpmError> {
        exactly("the digest", bank.digest_bytes(), digest)?;
        self.tpm.pcr_extend(pcr::number(pcr)?, bank, digest)
    }

    fn pcr_reset(&mut self, pcr: u8) -> Result<(), TpmError> {
        self.tpm.pcr_reset(pcr::number(pcr)?)
    }

    fn oaep_decrypt(&mut self, ciphertext: &[u8]) -> Result<Opened, TpmError> {
        exactly("the encrypted key half", RSA_BYTES, ciphertext)?;
        let Self { tpm, transport, .. } = self;
        let transport = transport.as_mut().ok_or(TpmError::NoTransportKey)?;
        with_room(tpm, |tpm| {
            transport.with(tpm, |tpm, key| tpm.oaep_decrypt(key, ciphertext))
        })
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TpmError> {
        let mut rest = out;
        while !rest.is_empty() {
            let (have, need) = (rest.len(), self.tpm.random(rest)?);
            let (_, tail) =
                rest.split_at_mut_checked(need)
                    .filter(|_| need > 0)
                    .ok_or(TpmError::Size {
                        what: "the TPM's random number",
                        need,
                        have,
                    })?;
            rest = tail;
        }
        Ok(())
    }
}

/// Opens the TPM once it answers. One that isn't there yet (its driver may still be loading) is waited for until this moment;
/// at least one try is made.
///
/// # Errors
/// [`TpmError::Open`]; what is wrong for good comes at once.
pub(super) fn wake_until<C: Commands>(name: &TctiName, until: Instant) -> Result<C, TpmError> {
    let mut is_said = false;
    loop {
        let opened = C::open(name).and_then(|mut tpm| wake(&mut tpm, name).map(|()| tpm));
        let left = until.saturating_duration_since(Instant::now());
        match opened {
            Err(error @ TpmError::Open { .. }) if !left.is_zero() => {
                if !std::mem::replace(&mut is_said, true) {
                    log::warn!("{error}; it is waited for");
                }
                sleep(APPEARANCE.min(left));
            }
            opened => return opened,
        }
    }
}

/// Makes sure that the TPM answers; one that waits for its start-up (a bare software TPM) gets it.
fn wake<C: Commands>(tpm: &mut C, name: &TctiName) -> Result<(), TpmError> {
    match tpm.handles(TRANSIENT_FIRST, 1) {
        Ok(_) => Ok(()),
        Err(error) if error.is_before_startup() => tpm.startup(),
        Err(TpmError::Command { cause, .. }) => Err(TpmError::Open {
            tcti: name.to_string(),
            cause,
        }),
        Err(error) => Err(error),
    }
}

/// Which EK has a certificate in this TPM.
fn certified_ek<C: Commands>(tpm: &mut C) -> Result<Option<EkKind>, TpmError> {
    for kind in [EkKind::Rsa2048, EkKind::P256] {
        if has_handle(tpm, kind.certificate_index())? {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// What `extraData` has room for.
///
/// # Errors
/// [`TpmError::Size`].
pub(super) fn at_most_a_nonce(what: &'static str, bytes: &[u8]) -> Result<(), TpmError> {
    if bytes.len() > MAX_NONCE_BYTES {
        return Err(TpmError::Size {
            what,
            need: MAX_NONCE_BYTES,
            have: bytes.len(),
        });
    }
    Ok(())
}

fn exactly(what: &'static str, need: usize, bytes: &[u8]) -> Result<(), TpmError> {
    if bytes.len() == need {
        Ok(())
    } else {
        let have = bytes.len();
        Err(TpmError::Size { what, need, have })
    }
}

/// How soon a TPM that isn't there is looked for again.
const APPEARANCE: Duration = Duration::from_millis(20);
const EK: &str = "endorsement key";
const TLS_SEED_TEXT: &[u8] = b"keyhalf tls seed 1";
const RSA_BYTES: usize = 2048 / 8;
/// A hash's identifier and the longest digest.
///
/// Source: TPM 2.0 Library part 2, TPM2B_DATA.
const MAX_NONCE_BYTES: usize = 2 + 64;
