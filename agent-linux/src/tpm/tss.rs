//! The way to the TPM over tpm2-tss: the only folder that names `tss_esapi`.

mod convert;
mod outbound;

use std::str::FromStr;
use std::time::Instant;

use agent_core::secret::Secret;
use agent_core::tpm::{Opened, SignedQuote};
use agent_core::wire::quote::{Digest, HashAlg, PcrMask};
use tss_esapi::constants::{CapabilityType, SessionType, StartupType};
use tss_esapi::handles::{
    AuthHandle, KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle,
    SessionHandle, TpmHandle,
};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{self as resource, NvAuth};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    self as tpm2, CapabilityData, Data, DigestValues, EncryptedSecret, HashScheme, IdObject,
    MaxBuffer, Nonce, Public, PublicKeyRsa, RsaDecryptionScheme, SignatureScheme,
    SymmetricDefinition,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::UnMarshall;
use tss_esapi::tss2_esys::TPMA_NV;
use tss_esapi::utils::TpmsContext;
use tss_esapi::{Context, Error as Code};

use super::code::until_ready;
use super::commands::{Commands, Hierarchy, NvPublic, PublicArea};
use super::error::{CREATE_OWNER_PRIMARY, CREATE_PRIMARY, Cause, TpmError};
use super::name::{Place, TctiName};
use super::value::{opened, secret};
use convert::{area, cause, hashing, marshalled, pcr_handle, selection, taken};

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

/// A TPM that the library has opened.
pub struct Tss {
    context: Context,
    shared: bool,
}

impl Tss {
    /// Sends one command, again while the TPM says that it is only busy.
    fn ask<T>(
        &mut self,
        command: &'static str,
        mut send: impl FnMut(&mut Context) -> Result<T, Code>,
    ) -> Result<T, TpmError> {
        let began = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let answer = until_ready(|| send(&mut self.context).map_err(cause));
        if let Some(began) = began {
            log::debug!("{command}: {} us", began.elapsed().as_micros());
        }
        answer.map_err(|cause| TpmError::of(command, cause))
    }

    /// Has the TPM say something longer than a decrypted key half: the library keeps the last answer in a buffer that it never
    /// wipes, and reuses it for the next one.
    fn overwrite_last_answer(&mut self) -> Result<(), TpmError> {
        self.ask(GET_CAPABILITY, |tpm| {
            tpm.get_capability(CapabilityType::TpmProperties, PROPERTIES_FIRST, PROPERTIES)
        })
        .map(drop)
    }

    /// Does `work` with the library's handle of an NV index.
    fn with_index<T>(
        &mut self,
        index: u32,
        work: impl FnOnce(&mut Self, NvIndexHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let index = NvIndexTpmHandle::new(index).map_err(|_| BAD_HANDLE)?;
        let object = self.ask(NV_READ_PUBLIC, |tpm| {
            tpm.tr_from_tpm_public(TpmHandle::NvIndex(index))
        })?;
        let result = work(self, NvIndexHandle::from(object));
        let closed = self.forget(object);
        let value = result?;
        closed?;
        Ok(value)
    }
}

impl Commands for Tss {
    type Handle = ObjectHandle;
    type Session = AuthSession;
    type Context = TpmsContext;

    fn open(name: &TctiName) -> Result<Self, TpmError> {
        // The library would pass over the path and take its default address.
        if let Place::SwtpmSocket(_) = name.place() {
            return Err(name.refused("tpm2-tss takes swtpm's host and port only"));
        }
        let conf = TctiNameConf::from_str(&name.to_string())
            .map_err(|_| name.refused("tpm2-tss doesn't take it"))?;
        let context = Context::new(conf).map_err(|code| TpmError::Open {
            tcti: name.to_string(),
            cause: cause(code),
        })?;
        let shared = name.is_shared();
        Ok(Self { context, shared })
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn startup(&mut self) -> Result<(), TpmError> {
        self.ask("TPM2_Startup", |tpm| tpm.startup(StartupType::Clear))
    }

    fn handles(&mut self, first: u32, count: u32) -> Result<Vec<u32>, TpmError> {
        let (data, _) = self.ask(GET_CAPABILITY, |tpm| {
            tpm.get_capability(CapabilityType::Handles, first, count)
        })?;
        match data {
            CapabilityData::Handles(list) => {
                Ok(list.into_inner().into_iter().map(u32::from).collect())
            }
            _ => Err(TpmError::Malformed {
                what: "the TPM's list of handles",
            }),
        }
    }

    fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
    ) -> Result<(ObjectHandle, PublicArea), TpmError> {
        let (name, hierarchy) = match hierarchy {
            Hierarchy::Endorsement => (CREATE_PRIMARY, resource::Hierarchy::Endorsement),
            Hierarchy::Owner => (CREATE_OWNER_PRIMARY, resource::Hierarchy::Owner),
        };
        let template = Public::unmarshall(template).map_err(|_| TpmError::Malformed {
            what: "a key template",
        })?;
        let made = self.ask(name, |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                tpm.create_primary(hierarchy, template.clone(), None, None, None, None)
            })
        })?;
        let handle = ObjectHandle::from(made.key_handle);
        match area(&made.out_public) {
            Ok(public) => Ok((handle, public)),
            Err(error) => {
                self.flush(handle)?;
                Err(error)
            }
        }
    }

    fn persistent(&mut self, handle: u32) -> Result<(ObjectHandle, PublicArea), TpmError> {
        let handle = PersistentTpmHandle::new(handle).map_err(|_| BAD_HANDLE)?;
        let object = self.ask("TPM2_ReadPublic", |tpm| {
            tpm.tr_from_tpm_public(TpmHandle::Persistent(handle))
        })?;
        let (public, _, _) = self.ask("TPM2_ReadPublic", |tpm| {
            tpm.read_public(KeyHandle::from(object))
        })?;
        Ok((object, area(&public)?))
    }

    fn forget(&mut self, mut handle: ObjectHandle) -> Result<(), TpmError> {
        self.ask("Esys_TR_Close", |tpm| tpm.tr_close(&mut handle))
    }

    fn context_save(&mut self, handle: ObjectHandle) -> Result<TpmsContext, TpmError> {
        self.ask("TPM2_ContextSave", |tpm| tpm.context_save(handle))
    }

    fn context_load(&mut self, context: &TpmsContext) -> Result<ObjectHandle, TpmError> {
        self.ask("TPM2_ContextLoad", |tpm| tpm.context_load(context.clone()))
    }

    fn flush(&mut self, handle: ObjectHandle) -> Result<(), TpmError> {
        self.ask("TPM2_FlushContext", |tpm| tpm.flush_context(handle))
    }

    fn flush_session(&mut self, session: AuthSession) -> Result<(), TpmError> {
        self.flush(SessionHandle::from(session).into())
    }

    fn flush_foreign(&mut self, handle: u32) -> Result<(), TpmError> {
        let handle = TpmHandle::try_from(handle).map_err(|_| BAD_HANDLE)?;
        let object = self.ask("TPM2_ReadPublic", |tpm| tpm.tr_from_tpm_public(handle))?;
        match self.flush(object) {
            // The library's book-keeping holds that policy sessions aren't flushed, after it has flushed them.
            Err(TpmError::Command {
                cause: Cause::Wrapper(_),
                ..
            }) => Ok(()),
            result => result,
        }
    }

    fn start_policy_session(&mut self) -> Result<AuthSession, TpmError> {
        self.ask("TPM2_StartAuthSession", |tpm| {
            let (kind, hash) = (SessionType::Policy, HashingAlgorithm::Sha256);
            let symmetric = SymmetricDefinition::AES_128_CFB;
            tpm.start_auth_session(None, None, None, kind, symmetric, hash)
        })?
        .ok_or(NO_SESSION)
    }

    fn policy_secret(&mut self, session: AuthSession) -> Result<(), TpmError> {
        let session = PolicySession::try_from(session).map_err(|_| NO_SESSION)?;
        self.ask("TPM2_PolicySecret", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                let (nonce, reference) = (Nonce::default(), Nonce::default());
                let digest = tpm2::Digest::default();
                tpm.policy_secret(
                    session,
                    AuthHandle::Endorsement,
                    nonce,
                    digest,
                    reference,
                    None,
                )
            })
        })
        .map(drop)
    }

    fn activate_credential(
        &mut self,
        ak: ObjectHandle,
        ek: ObjectHandle,
        session: AuthSession,
        id_object: &[u8],
        secret: &[u8],
    ) -> Result<Opened, TpmError> {
        let blob: IdObject = taken("TPM2B_ID_OBJECT", id_object)?;
        let secret: EncryptedSecret = taken("TPM2B_ENCRYPTED_SECRET", secret)?;
        let credential = self.ask("TPM2_ActivateCredential", |tpm| {
            tpm.execute_with_sessions((PASSWORD, Some(session), None), |tpm| {
                tpm.activate_credential(ak.into(), ek.into(), blob.clone(), secret.clone())
            })
        })?;
        opened("the credential", credential.value())
    }

    fn quote(
        &mut self,
        ak: ObjectHandle,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, TpmError> {
        let nonce: Data = taken("the nonce", nonce)?;
        let selection = selection(bank, pcrs)?;
        let (attest, signature) = self.ask("TPM2_Quote", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                let scheme = SignatureScheme::Null;
                tpm.quote(ak.into(), nonce.clone(), scheme, selection.clone())
            })
        })?;
        Ok(SignedQuote {
            attest: marshalled("TPMS_ATTEST", &attest)?,
            signature: marshalled("TPMT_SIGNATURE", &signature)?,
        })
    }

    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<(u32, Vec<Digest>), TpmError> {
        let selection = selection(bank, pcrs)?;
        let (updates, _, digests) =
            self.ask("TPM2_PCR_Read", |tpm| tpm.pcr_read(selection.clone()))?;
        let digests = digests.value().iter().map(|digest| {
            Digest::from_slice(digest.value()).map_err(|_| TpmError::Malformed {
                what: "the value of a PCR",
            })
        });
        Ok((updates, digests.collect::<Result<_, _>>()?))
    }

    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &[u8]) -> Result<(), TpmError> {
        let handle = pcr_handle(pcr)?;
        let mut values = DigestValues::new();
        values.set(hashing(bank), taken("the digest", digest)?);
        self.ask("TPM2_PCR_Extend", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| tpm.pcr_extend(handle, values.clone()))
        })
    }

    fn pcr_reset(&mut self, pcr: u8) -> Result<(), TpmError> {
        let handle = pcr_handle(pcr)?;
        self.ask("TPM2_PCR_Reset", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| tpm.pcr_reset(handle))
        })
    }

    fn oaep_decrypt(&mut self, key: ObjectHandle, ciphertext: &[u8]) -> Result<Opened, TpmError> {
        let ciphertext: PublicKeyRsa = taken("the ciphertext", ciphertext)?;
        let scheme = RsaDecryptionScheme::Oaep(HashScheme::new(HashingAlgorithm::Sha1));
        let plain = self.ask("TPM2_RSA_Decrypt", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                tpm.rsa_decrypt(key.into(), ciphertext.clone(), scheme, Data::default())
            })
        })?;
        let half = opened("the key half", plain.value())?;
        self.overwrite_last_answer()?;
        Ok(half)
    }

    fn hmac(&mut self, key: ObjectHandle, text: &[u8]) -> Result<Secret<32>, TpmError> {
        let text: MaxBuffer = taken("the text of an HMAC", text)?;
        let digest = self.ask("TPM2_HMAC", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                tpm.hmac(key, text.clone(), HashingAlgorithm::Null)
            })
        })?;
        secret("the TPM's HMAC", digest.value())
    }

    fn random(&mut self, out: &mut [u8]) -> Result<usize, TpmError> {
        let need = out.len().min(RANDOM_BYTES);
        let bytes = self.ask("TPM2_GetRandom", |tpm| tpm.get_random(need))?;
        let have = bytes.value().len();
        let place = out.get_mut(..have).filter(|_| have <= need);
        place
            .ok_or(TpmError::Size {
                what: "the TPM's random number",
                need,
                have,
            })?
            .copy_from_slice(bytes.value());
        Ok(have)
    }

    fn nv_public(&mut self, index: u32) -> Result<NvPublic, TpmError> {
        self.with_index(index, |tpm, index| {
            let (public, _) = tpm.ask(NV_READ_PUBLIC, |tpm| tpm.nv_read_public(index))?;
            let attributes = TPMA_NV::try_from(public.attributes());
            Ok(NvPublic {
                size: public.data_size(),
                attributes: attributes.map_err(|_| TpmError::Malformed {
                    what: "what an NV index is",
                })?,
            })
        })
    }

    fn nv_read(&mut self, index: u32, offset: u16, piece: &mut [u8]) -> Result<(), TpmError> {
        let what = "a piece of an NV index";
        let need = piece.len();
        let len = u16::try_from(need).map_err(|_| TpmError::Malformed { what })?;
        let bytes = self.with_index(index, |tpm, index| {
            tpm.ask("TPM2_NV_Read", |tpm| {
                tpm.execute_with_session(PASSWORD, |tpm| {
                    tpm.nv_read(NvAuth::NvIndex(index), index, len, offset)
                })
            })
        })?;
        let have = bytes.value().len();
        if have != need {
            return Err(TpmError::Size { what, need, have });
        }
        piece.copy_from_slice(bytes.value());
        Ok(())
    }
}

/// The library's variable for what it logs.
///
/// Source: tpm2-tss, doc/logging.md.
const LOG_VARIABLE: &str = "TSS2_LOG";
/// A password session costs nothing.
const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);
const GET_CAPABILITY: &str = "TPM2_GetCapability";
const NV_READ_PUBLIC: &str = "TPM2_NV_ReadPublic";
/// The fixed properties, of which every TPM has more than [`PROPERTIES`].
///
/// Source: TPM 2.0 Library part 2, table 23.
const PROPERTIES_FIRST: u32 = 0x100;
/// Eight bytes each, of an answer that is to be longer than 64.
const PROPERTIES: u32 = 32;
/// What one TPM2_GetRandom gives at least.
const RANDOM_BYTES: usize = 32;

const BAD_HANDLE: TpmError = TpmError::Malformed { what: "a handle" };
const NO_SESSION: TpmError = TpmError::Malformed {
    what: "the policy session",
};
