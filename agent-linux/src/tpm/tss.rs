//! The TPM over tpm2-tss: the only folder that names `tss_esapi`.
//!
//! Nothing stays loaded between two calls: keys are made once and live as saved contexts in memory, sessions are passwords or
//! last for one command. So a bare software TPM with its three places is enough, and behind a resource manager little is
//! swapped. Each path, errors included, flushes what it loaded.

mod activation;
mod channel;
mod convert;
mod error;
mod key;
mod name;
mod nv;
mod pcr;
mod pem;
mod template;

use agent_core::secret::Secret;
use agent_core::tpm::{Identity, Opened, SignedQuote, Tpm};
use agent_core::wire::quote::{Digest, HashAlg, PcrMask, PcrValues, SignAlg};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    self as tpm2, Data, DigestValues, EncryptedSecret, HashScheme, IdObject, MaxBuffer,
    PublicKeyRsa, RsaDecryptionScheme, SignatureScheme,
};

use channel::Channel;
use convert::{bounded, marshal, opened, sized};
pub use error::TssError;
use key::Key;
pub use name::TctiName;
use template::{EkKind, hashing};

/// Keeps tpm2-tss from writing to standard error: it reports every refusal of the TPM there, also those that the agent
/// expects and handles. A `TSS2_LOG` that the user has set stays.
///
/// To be called first in `main`: it does nothing once the process has a second thread.
pub fn quiet_library() {
    let is_alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if is_alone && std::env::var_os(LOG_VARIABLE).is_none() {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { std::env::set_var(LOG_VARIABLE, "all+none") };
    }
}

/// A TPM with the agent's keys made.
pub struct TssTpm {
    channel: Channel,
    ek_kind: Option<EkKind>,
    ek: Key,
    ak: Key,
    transport: Key,
    identity: Identity,
    ek_pem: String,
}

impl TssTpm {
    /// Opens the TPM and makes the agent's keys: EK, AK with this scheme and hash, transport key.
    ///
    /// The EK is the one with a certificate in NV, RSA-2048 first, and P-256 if there is none; one that was made persistent is
    /// used as it is.
    ///
    /// # Errors
    /// The TPM doesn't answer, or not as it should; [`TssError::EndorsementPassword`].
    ///
    /// # Cost
    /// Two RSA keys: 50 to 300 ms on a software TPM, seconds on some others.
    pub fn open(name: &TctiName, sign: SignAlg, hash: HashAlg) -> Result<Self, TssError> {
        let mut channel = Channel::open(name)?;
        let ek_kind = certified_ek(&mut channel)?;
        let kind = ek_kind.unwrap_or(EkKind::P256);
        let template = template::endorsement(kind)?;
        let ek = match Key::persistent(&mut channel, EK, kind.persistent_handle(), &template)? {
            Some(key) => key,
            None => Key::create(&mut channel, EK, template)?,
        };
        let ak = Key::create(
            &mut channel,
            "attestation key",
            template::attestation(sign, hash)?,
        )?;
        let transport = Key::create(&mut channel, "transport key", template::transport()?)?;
        let identity = Identity {
            ek_public: marshal(ek.public())?,
            ak_public: marshal(ak.public())?,
            transport_pem: pem::of(transport.public())?
                .parse()
                .map_err(|_| pem::TOO_LONG)?,
        };
        let ek_pem = pem::of(ek.public())?;
        Ok(Self {
            channel,
            ek_kind,
            ek,
            ak,
            transport,
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
    pub fn tls_seed(&mut self) -> Result<Secret<32>, TssError> {
        let mut key = Key::create(&mut self.channel, "TLS key", template::tls()?)?;
        let text = MaxBuffer::try_from(TLS_SEED_TEXT).map_err(|_| TssError::Malformed {
            what: "the TLS seed's text",
        })?;
        let digest = self.channel.with_room(|channel| {
            key.with(channel, |channel, key| {
                channel.ask("TPM2_HMAC", |tpm| {
                    tpm.execute_with_session(PASSWORD, |tpm| {
                        tpm.hmac(key.into(), text.clone(), HashingAlgorithm::Null)
                    })
                })
            })
        })?;
        match <&[u8; 32]>::try_from(digest.value()) {
            Ok(bytes) => Ok(Secret::copy_of(bytes)),
            Err(_) => Err(TssError::Size {
                what: "the TPM's HMAC",
                need: 32,
                have: digest.value().len(),
            }),
        }
    }
}

impl Tpm for TssTpm {
    type Error = TssError;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn ek_certificate(&mut self, out: &mut [u8]) -> Result<Option<usize>, TssError> {
        match self.ek_kind {
            Some(kind) => {
                nv::read_certificate(&mut self.channel, kind.certificate_index(), out).map(Some)
            }
            None => Ok(None),
        }
    }

    fn activate_credential(&mut self, id_object: &[u8], secret: &[u8]) -> Result<Opened, TssError> {
        let blob = sized("TPM2B_ID_OBJECT", id_object, IdObject::MAX_SIZE)?;
        let blob = IdObject::try_from(blob).map_err(|_| TssError::Malformed {
            what: "TPM2B_ID_OBJECT",
        })?;
        let secret = sized("TPM2B_ENCRYPTED_SECRET", secret, EncryptedSecret::MAX_SIZE)?;
        let secret = EncryptedSecret::try_from(secret).map_err(|_| TssError::Malformed {
            what: "TPM2B_ENCRYPTED_SECRET",
        })?;
        let Self {
            channel, ek, ak, ..
        } = self;
        let credential = channel.with_room(|channel| {
            ek.with(channel, |channel, ek| {
                ak.with(channel, |channel, ak| {
                    activation::activate(channel, ek, ak, &blob, &secret)
                })
            })
        })?;
        opened("the credential", credential.value())
    }

    fn quote(
        &mut self,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, TssError> {
        let size = TssError::Size {
            what: "the nonce",
            need: Data::MAX_SIZE,
            have: nonce.len(),
        };
        let nonce = Data::try_from(nonce).map_err(|_| size)?;
        let selection = pcr::selection(bank, pcrs.iter())?;
        let Self { channel, ak, .. } = self;
        let (attest, signature) = channel.with_room(|channel| {
            ak.with(channel, |channel, ak| {
                channel.ask("TPM2_Quote", |tpm| {
                    tpm.execute_with_session(PASSWORD, |tpm| {
                        tpm.quote(ak, nonce.clone(), SignatureScheme::Null, selection.clone())
                    })
                })
            })
        })?;
        Ok(SignedQuote {
            attest: bounded("TPMS_ATTEST", &attest)?,
            signature: bounded("TPMT_SIGNATURE", &signature)?,
        })
    }

    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<PcrValues, TssError> {
        pcr::read(&mut self.channel, bank, pcrs)
    }

    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &Digest) -> Result<(), TssError> {
        if digest.len() != bank.digest_bytes() {
            return Err(TssError::Size {
                what: "the digest",
                need: bank.digest_bytes(),
                have: digest.len(),
            });
        }
        let handle = pcr::handle(pcr)?;
        let digest = tpm2::Digest::try_from(digest.as_slice())
            .map_err(|_| TssError::Malformed { what: "the digest" })?;
        let mut values = DigestValues::new();
        values.set(hashing(bank), digest);
        self.channel.ask("TPM2_PCR_Extend", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| tpm.pcr_extend(handle, values.clone()))
        })
    }

    fn pcr_reset(&mut self, pcr: u8) -> Result<(), TssError> {
        let handle = pcr::handle(pcr)?;
        self.channel.ask("TPM2_PCR_Reset", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| tpm.pcr_reset(handle))
        })
    }

    fn oaep_decrypt(&mut self, ciphertext: &[u8]) -> Result<Opened, TssError> {
        if ciphertext.len() != RSA_BYTES {
            return Err(TssError::Size {
                what: "the encrypted key half",
                need: RSA_BYTES,
                have: ciphertext.len(),
            });
        }
        let ciphertext = PublicKeyRsa::try_from(ciphertext).map_err(|_| TssError::Malformed {
            what: "the encrypted key half",
        })?;
        let scheme = RsaDecryptionScheme::Oaep(HashScheme::new(HashingAlgorithm::Sha1));
        let Self {
            channel, transport, ..
        } = self;
        let plain = channel.with_room(|channel| {
            transport.with(channel, |channel, key| {
                channel.ask("TPM2_RSA_Decrypt", |tpm| {
                    tpm.execute_with_session(PASSWORD, |tpm| {
                        tpm.rsa_decrypt(key, ciphertext.clone(), scheme, Data::default())
                    })
                })
            })
        })?;
        let half = opened("the key half", plain.value())?;
        channel.overwrite_last_answer()?;
        Ok(half)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), TssError> {
        let mut rest = out;
        while !rest.is_empty() {
            let want = rest.len().min(RANDOM_BYTES);
            let bytes = self
                .channel
                .ask("TPM2_GetRandom", |tpm| tpm.get_random(want))?;
            let got = bytes.value().len();
            let Some((head, tail)) = rest
                .split_at_mut_checked(got)
                .filter(|_| (1..=want).contains(&got))
            else {
                return Err(TssError::Size {
                    what: "the TPM's random number",
                    need: want,
                    have: got,
                });
            };
            head.copy_from_slice(bytes.value());
            rest = tail;
        }
        Ok(())
    }
}

/// Which EK has a certificate in this TPM.
fn certified_ek(channel: &mut Channel) -> Result<Option<EkKind>, TssError> {
    for kind in [EkKind::Rsa2048, EkKind::P256] {
        if channel.has_handle(kind.certificate_index())? {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// The library's variable for what it logs.
///
/// Source: tpm2-tss, doc/logging.md.
const LOG_VARIABLE: &str = "TSS2_LOG";
const EK: &str = "endorsement key";
/// No key of the agent has a password, and a password session costs nothing.
const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);
const TLS_SEED_TEXT: &[u8] = b"keyhalf tls seed 1";
const RSA_BYTES: usize = 2048 / 8;
/// What one TPM2_GetRandom gives at least.
const RANDOM_BYTES: usize = 32;
