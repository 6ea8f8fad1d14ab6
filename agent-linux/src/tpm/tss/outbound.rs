//! The commands that only an agent that calls its verifier uses, by tpm2-tss.

use agent_core::secret::Secret;
use agent_core::tpm::SignedQuote;
use agent_core::wire::quote::{HashAlg, PcrMask};
use tss_esapi::attributes::NvIndexAttributes;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{NvIndexTpmHandle, ObjectHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth, Provision};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    CapabilityData, Data, Digest, DigestValues, MaxBuffer, NvPublicBuilder, PcrSlot, Private,
    Public, SensitiveData, SignatureScheme,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::tss2_esys::TPMA_NV;

use super::convert::{marshalled, pcr_handle, selection, taken};
use super::{BAD_HANDLE, GET_CAPABILITY, NO_SESSION, PASSWORD, Tss};
use crate::tpm::commands::Commands;
use crate::tpm::error::{NV_DEFINE_SPACE, TpmError};
use crate::tpm::outbound::{Kept, OutboundCommands};
use crate::tpm::value::secret as secret_of;

impl Tss {
    /// The hashes of the banks that have this PCR.
    fn banks(&mut self, pcr: u8) -> Result<Vec<HashingAlgorithm>, TpmError> {
        let malformed = TpmError::Malformed {
            what: "the TPM's list of banks",
        };
        let slot = PcrSlot::try_from(1_u32 << (pcr & 31)).map_err(|_| malformed.clone())?;
        let (data, _) = self.ask(GET_CAPABILITY, |tpm| {
            tpm.get_capability(CapabilityType::AssignedPcr, 0, MAX_BANKS)
        })?;
        let CapabilityData::AssignedPcr(list) = data else {
            return Err(malformed);
        };
        let banks = list.get_selections().iter();
        Ok(banks
            .filter(|bank| bank.is_selected(slot))
            .map(|bank| bank.hashing_algorithm())
            .collect())
    }
}

impl OutboundCommands for Tss {
    fn certify(
        &mut self,
        object: ObjectHandle,
        key: ObjectHandle,
        qualifying: &[u8],
    ) -> Result<SignedQuote, TpmError> {
        let qualifying: Data = taken("the qualifying data", qualifying)?;
        let (attest, signature) = self.ask("TPM2_Certify", |tpm| {
            tpm.execute_with_sessions((PASSWORD, PASSWORD, None), |tpm| {
                let scheme = SignatureScheme::Null;
                tpm.certify(object, key.into(), qualifying.clone(), scheme)
            })
        })?;
        Ok(SignedQuote {
            attest: marshalled("TPMS_ATTEST", &attest)?,
            signature: marshalled("TPMT_SIGNATURE", &signature)?,
        })
    }

    fn pcr_event(&mut self, pcr: u8, text: &[u8]) -> Result<(), TpmError> {
        let handle = pcr_handle(pcr)?;
        let text: MaxBuffer = taken("the text of an event", text)?;
        let mut values = DigestValues::new();
        for bank in self.banks(pcr)? {
            let (digest, _) = self.ask("TPM2_Hash", |tpm| {
                tpm.hash(text.clone(), bank, Hierarchy::Null)
            })?;
            values.set(bank, digest);
        }
        self.ask("TPM2_PCR_Extend", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| tpm.pcr_extend(handle, values.clone()))
        })
    }

    fn nv_define_counter(&mut self, index: u32, attributes: u32) -> Result<(), TpmError> {
        let malformed = |_| TpmError::Malformed {
            what: "the attributes of a counter",
        };
        let index = NvIndexTpmHandle::new(index).map_err(|_| BAD_HANDLE)?;
        let attributes: TPMA_NV = attributes;
        let public = NvIndexAttributes::try_from(attributes)
            .and_then(|attributes| {
                NvPublicBuilder::new()
                    .with_nv_index(index)
                    .with_index_name_algorithm(HashingAlgorithm::Sha256)
                    .with_index_attributes(attributes)
                    .with_data_area_size(COUNTER_BYTES)
                    .build()
            })
            .map_err(malformed)?;
        let index = self.ask(NV_DEFINE_SPACE, |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                tpm.nv_define_space(Provision::Owner, None, public.clone())
            })
        })?;
        self.forget(index.into())
    }

    fn nv_increment(&mut self, index: u32) -> Result<(), TpmError> {
        self.with_index(index, |tpm, index| {
            tpm.ask("TPM2_NV_Increment", |tpm| {
                tpm.execute_with_session(PASSWORD, |tpm| {
                    tpm.nv_increment(NvAuth::NvIndex(index), index)
                })
            })
        })
    }

    fn create(
        &mut self,
        parent: ObjectHandle,
        template: &[u8],
        secret: &Secret<32>,
    ) -> Result<Kept, TpmError> {
        let template = Public::unmarshall(template).map_err(|_| MALFORMED)?;
        let secret: SensitiveData = taken("the secret to keep", secret.as_ref())?;
        let made = self.ask("TPM2_Create", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                let (public, secret) = (template.clone(), Some(secret.clone()));
                tpm.create(parent.into(), public, None, secret, None, None)
            })
        })?;
        Ok(Kept {
            private: made.out_private.value().to_vec(),
            public: made.out_public.marshall().map_err(|_| MALFORMED)?,
        })
    }

    fn load_kept(&mut self, parent: ObjectHandle, kept: &Kept) -> Result<ObjectHandle, TpmError> {
        let public = Public::unmarshall(&kept.public).map_err(|_| MALFORMED)?;
        let private: Private = taken("a kept secret", &kept.private)?;
        self.ask("TPM2_Load", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                tpm.load(parent.into(), private.clone(), public.clone())
            })
        })
        .map(ObjectHandle::from)
    }

    fn policy_pcr(
        &mut self,
        session: AuthSession,
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<(), TpmError> {
        let session = PolicySession::try_from(session).map_err(|_| NO_SESSION)?;
        let selection = selection(bank, pcrs)?;
        self.ask("TPM2_PolicyPCR", |tpm| {
            tpm.policy_pcr(session, Digest::default(), selection.clone())
        })
    }

    fn unseal(
        &mut self,
        object: ObjectHandle,
        session: AuthSession,
    ) -> Result<Secret<32>, TpmError> {
        let plain = self.ask("TPM2_Unseal", |tpm| {
            tpm.execute_with_session(Some(session), |tpm| tpm.unseal(object))
        })?;
        let secret = secret_of("the kept secret", plain.value())?;
        self.overwrite_last_answer()?;
        Ok(secret)
    }
}

/// More than any TPM has.
const MAX_BANKS: u32 = 16;
const COUNTER_BYTES: usize = 8;
const MALFORMED: TpmError = TpmError::Malformed {
    what: "a kept secret",
};
