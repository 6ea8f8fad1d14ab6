//! The way to the TPM without any library of C: commands marshalled by tpm2-protocol, over the kernel's device or swtpm's
//! socket. The only folder that names `tpm2_protocol`, whose interface changes from version to version.
//!
//! An answer counts for hostile until its last byte is accounted for. Both buffers are wiped after each command: credentials
//! and key halves come through them.

mod channel;
mod frame;
mod outbound;
mod transport;
mod value;

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_ATTEST_BYTES, MAX_PUBLIC_BYTES, Opened, SignedQuote};
use agent_core::wire::quote::{Digest, HashAlg, MAX_DIGEST_BYTES, PcrMask};
use tpm2_protocol::basic::{TpmHandle, TpmInt32, TpmUint16, TpmUint32};
use tpm2_protocol::data::{
    Tpm2bPublic, TpmAlgId, TpmCap, TpmRh, TpmSe, TpmSu, TpmlDigestValues, TpmsContext,
    TpmsSchemeHash, TpmtHa, TpmtRsaDecrypt, TpmtSigScheme, TpmtSymDefObject, TpmuAsymScheme,
    TpmuCapabilities, TpmuHa, TpmuSymKeyBits, TpmuSymMode,
};
use tpm2_protocol::frame as tpm2;

use super::commands::{Commands, Hierarchy, NvPublic, PublicArea};
use super::error::{CREATE_OWNER_PRIMARY, CREATE_PRIMARY, TpmError};
use super::name::TctiName;
use super::value::{bounded, opened, secret};
pub use channel::Raw;
use transport::MAX_FRAME_BYTES;
use value::{buffer, continued, endorsement, hashing, owner, password, public, selection};

impl Commands for Raw {
    type Handle = u32;
    type Session = u32;
    type Context = Box<TpmsContext>;

    fn open(name: &TctiName) -> Result<Self, TpmError> {
        Self::over(name)
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn startup(&mut self) -> Result<(), TpmError> {
        let command = tpm2::TpmStartupCommand {
            handles: [],
            startup_type: TpmSu::Clear,
        };
        self.tell("TPM2_Startup", &command, &[])
    }

    fn handles(&mut self, first: u32, count: u32) -> Result<Vec<u32>, TpmError> {
        const NAME: &str = "TPM2_GetCapability";
        let command = tpm2::TpmGetCapabilityCommand {
            handles: [],
            cap: TpmCap::Handles,
            property: TpmUint32::new(first),
            property_count: TpmUint32::new(count),
        };
        self.ask(NAME, &command, &[], 0, |answer| {
            let answer: tpm2::TpmGetCapabilityResponse = answer.read()?;
            match answer.capability_data.data {
                TpmuCapabilities::Handles(list) => {
                    Ok(list.iter().map(|handle| handle.value()).collect())
                }
                _ => Err(TpmError::Malformed { what: NAME }),
            }
        })
    }

    fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
    ) -> Result<(u32, PublicArea), TpmError> {
        let (name, hierarchy) = match hierarchy {
            Hierarchy::Endorsement => (CREATE_PRIMARY, endorsement()),
            Hierarchy::Owner => (CREATE_OWNER_PRIMARY, owner()),
        };
        let command = tpm2::TpmCreatePrimaryCommand {
            handles: [hierarchy],
            in_sensitive: Default::default(),
            in_public: Tpm2bPublic {
                inner: public(template)?,
            },
            outside_info: Default::default(),
            creation_pcr: Default::default(),
        };
        self.load(name, &command, &[password()], |answer| {
            answer.read::<tpm2::TpmCreatePrimaryResponse>()?;
            let (public, _) = answer.first_sized::<MAX_PUBLIC_BYTES>()?;
            bounded("TPM2B_PUBLIC", public.as_bytes())
        })
    }

    fn persistent(&mut self, handle: u32) -> Result<(u32, PublicArea), TpmError> {
        let command = tpm2::TpmReadPublicCommand {
            handles: [TpmHandle::new(handle)],
        };
        self.ask("TPM2_ReadPublic", &command, &[], 0, |answer| {
            answer.read::<tpm2::TpmReadPublicResponse>()?;
            let (public, _) = answer.first_sized::<MAX_PUBLIC_BYTES>()?;
            Ok((handle, bounded("TPM2B_PUBLIC", public.as_bytes())?))
        })
    }

    fn forget(&mut self, _: u32) -> Result<(), TpmError> {
        Ok(())
    }

    fn context_save(&mut self, handle: u32) -> Result<Box<TpmsContext>, TpmError> {
        let command = tpm2::TpmContextSaveCommand {
            handles: [TpmHandle::new(handle)],
        };
        self.ask("TPM2_ContextSave", &command, &[], 0, |answer| {
            let answer: tpm2::TpmContextSaveResponse = answer.read()?;
            Ok(Box::new(answer.context))
        })
    }

    fn context_load(&mut self, context: &Box<TpmsContext>) -> Result<u32, TpmError> {
        let command = tpm2::TpmContextLoadCommand {
            handles: [],
            context: TpmsContext::clone(context),
        };
        self.load("TPM2_ContextLoad", &command, &[], |answer| {
            answer.read::<tpm2::TpmContextLoadResponse>()
        })
        .map(|(handle, _)| handle)
    }

    fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        let command = tpm2::TpmFlushContextCommand {
            handles: [],
            flush_handle: TpmHandle::new(handle),
        };
        self.tell("TPM2_FlushContext", &command, &[])
    }

    fn flush_session(&mut self, session: u32) -> Result<(), TpmError> {
        self.flush(session)
    }

    fn flush_foreign(&mut self, handle: u32) -> Result<(), TpmError> {
        self.flush(handle)
    }

    fn start_policy_session(&mut self) -> Result<u32, TpmError> {
        let none = TpmHandle::new(TpmRh::Null.value());
        let command = tpm2::TpmStartAuthSessionCommand {
            handles: [none, none],
            nonce_caller: buffer("a nonce", &[0; NONCE_BYTES])?,
            encrypted_salt: Default::default(),
            session_type: TpmSe::Policy,
            symmetric: TpmtSymDefObject {
                algorithm: TpmAlgId::Aes,
                key_bits: TpmuSymKeyBits::Aes(TpmUint16::new(128)),
                mode: TpmuSymMode::Aes(TpmAlgId::Cfb),
            },
            auth_hash: TpmAlgId::Sha256,
        };
        self.load("TPM2_StartAuthSession", &command, &[], |answer| {
            answer.read::<tpm2::TpmStartAuthSessionResponse>()
        })
        .map(|(handle, _)| handle)
    }

    fn policy_secret(&mut self, session: u32) -> Result<(), TpmError> {
        let command = tpm2::TpmPolicySecretCommand {
            handles: [endorsement(), TpmHandle::new(session)],
            nonce_tpm: Default::default(),
            cp_hash_a: Default::default(),
            policy_ref: Default::default(),
            expiration: TpmInt32::new(0),
        };
        self.ask("TPM2_PolicySecret", &command, &[password()], 0, |answer| {
            answer.read::<tpm2::TpmPolicySecretResponse>().map(drop)
        })
    }

    fn activate_credential(
        &mut self,
        ak: u32,
        ek: u32,
        session: u32,
        id_object: &[u8],
        secret: &[u8],
    ) -> Result<Opened, TpmError> {
        let command = tpm2::TpmActivateCredentialCommand {
            handles: [TpmHandle::new(ak), TpmHandle::new(ek)],
            credential_blob: buffer("TPM2B_ID_OBJECT", id_object)?,
            secret: buffer("TPM2B_ENCRYPTED_SECRET", secret)?,
        };
        let sessions = [password(), continued(session)];
        self.ask(
            "TPM2_ActivateCredential",
            &command,
            &sessions,
            0,
            |answer| opened("the credential", answer.sized::<MAX_DIGEST_BYTES>()?),
        )
    }

    fn quote(
        &mut self,
        ak: u32,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, TpmError> {
        let command = tpm2::TpmQuoteCommand {
            handles: [TpmHandle::new(ak)],
            qualifying_data: buffer("the nonce", nonce)?,
            in_scheme: TpmtSigScheme::default(),
            pcr_select: selection(bank, pcrs)?,
        };
        self.ask("TPM2_Quote", &command, &[password()], 0, |answer| {
            answer.read::<tpm2::TpmQuoteResponse>()?;
            // The bytes that were signed, not what they would be if they were written again.
            let (attest, signature) = answer.first_sized::<MAX_ATTEST_BYTES>()?;
            Ok(SignedQuote {
                attest: bounded("TPMS_ATTEST", attest.data())?,
                signature: bounded("TPMT_SIGNATURE", signature)?,
            })
        })
    }

    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<(u32, Vec<Digest>), TpmError> {
        let command = tpm2::TpmPcrReadCommand {
            handles: [],
            pcr_selection_in: selection(bank, pcrs)?,
        };
        self.ask("TPM2_PCR_Read", &command, &[], 0, |answer| {
            let answer: tpm2::TpmPcrReadResponse = answer.read()?;
            let values = answer.pcr_values.iter();
            let values = values.map(|value| bounded("the value of a PCR", value));
            Ok((
                answer.pcr_update_counter.value(),
                values.collect::<Result<_, _>>()?,
            ))
        })
    }

    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &[u8]) -> Result<(), TpmError> {
        let mut digests = TpmlDigestValues::new();
        let value = TpmtHa {
            hash_alg: hashing(bank),
            digest: TpmuHa::Digest(buffer("the digest", digest)?),
        };
        digests
            .try_push(value)
            .map_err(|_| TpmError::Malformed { what: "the digest" })?;
        let command = tpm2::TpmPcrExtendCommand {
            handles: [TpmHandle::new(pcr.into())],
            digests,
        };
        self.tell("TPM2_PCR_Extend", &command, &[password()])
    }

    fn pcr_reset(&mut self, pcr: u8) -> Result<(), TpmError> {
        let command = tpm2::TpmPcrResetCommand {
            handles: [TpmHandle::new(pcr.into())],
        };
        self.tell("TPM2_PCR_Reset", &command, &[password()])
    }

    fn oaep_decrypt(&mut self, key: u32, ciphertext: &[u8]) -> Result<Opened, TpmError> {
        let command = tpm2::TpmRsaDecryptCommand {
            handles: [TpmHandle::new(key)],
            cipher_text: buffer("the ciphertext", ciphertext)?,
            in_scheme: TpmtRsaDecrypt {
                scheme: TpmAlgId::Oaep,
                details: TpmuAsymScheme::Hash(TpmsSchemeHash {
                    hash_alg: TpmAlgId::Sha1,
                }),
            },
            label: Default::default(),
        };
        self.ask("TPM2_RSA_Decrypt", &command, &[password()], 0, |answer| {
            opened("the key half", answer.sized::<MAX_RSA_BYTES>()?)
        })
    }

    fn hmac(&mut self, key: u32, text: &[u8]) -> Result<Secret<32>, TpmError> {
        let command = tpm2::TpmHmacCommand {
            handles: [TpmHandle::new(key)],
            buffer: buffer("the text of an HMAC", text)?,
            hash_alg: TpmAlgId::Null,
        };
        self.ask("TPM2_HMAC", &command, &[password()], 0, |answer| {
            secret("the TPM's HMAC", answer.sized::<MAX_DIGEST_BYTES>()?)
        })
    }

    fn random(&mut self, out: &mut [u8]) -> Result<usize, TpmError> {
        let need = u16::try_from(out.len())
            .unwrap_or(u16::MAX)
            .min(RANDOM_BYTES);
        let command = tpm2::TpmGetRandomCommand {
            handles: [],
            bytes_requested: TpmUint16::new(need),
        };
        self.ask("TPM2_GetRandom", &command, &[], 0, |answer| {
            let bytes = answer.sized::<MAX_DIGEST_BYTES>()?;
            let have = bytes.len();
            let place = out.get_mut(..have).filter(|_| have <= need.into());
            let error = TpmError::Size {
                what: "the TPM's random number",
                need: need.into(),
                have,
            };
            place.ok_or(error)?.copy_from_slice(bytes);
            Ok(have)
        })
    }

    fn nv_public(&mut self, index: u32) -> Result<NvPublic, TpmError> {
        let command = tpm2::TpmNvReadPublicCommand {
            handles: [TpmHandle::new(index)],
        };
        self.ask("TPM2_NV_ReadPublic", &command, &[], 0, |answer| {
            let answer: tpm2::TpmNvReadPublicResponse = answer.read()?;
            let public = answer.nv_public.inner;
            Ok(NvPublic {
                size: public.data_size.value().into(),
                attributes: public.attributes.bits(),
            })
        })
    }

    fn nv_read(&mut self, index: u32, offset: u16, piece: &mut [u8]) -> Result<(), TpmError> {
        let what = "a piece of an NV index";
        let need = piece.len();
        let len = u16::try_from(need).map_err(|_| TpmError::Malformed { what })?;
        let command = tpm2::TpmNvReadCommand {
            handles: [TpmHandle::new(index), TpmHandle::new(index)],
            size: TpmUint16::new(len),
            offset: TpmUint16::new(offset),
        };
        self.ask("TPM2_NV_Read", &command, &[password()], 0, |answer| {
            let bytes = answer.sized::<MAX_FRAME_BYTES>()?;
            let have = bytes.len();
            if have != need {
                return Err(TpmError::Size { what, need, have });
            }
            piece.copy_from_slice(bytes);
            Ok(())
        })
    }
}

/// The least that a TPM takes. It is no secret and proves nothing: the session has neither key nor HMAC.
///
/// Source: TPM 2.0 Library part 3, section 11.1.
const NONCE_BYTES: usize = 16;
/// What one TPM2_GetRandom gives at least.
const RANDOM_BYTES: u16 = 32;
const MAX_RSA_BYTES: usize = 2048 / 8;
