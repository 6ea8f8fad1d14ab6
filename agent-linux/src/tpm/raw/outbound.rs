//! The commands that only an agent that calls its verifier uses, by tpm2-protocol.

use agent_core::secret::Secret;
use agent_core::tpm::{MAX_ATTEST_BYTES, MAX_KEPT_BYTES, SignedQuote};
use agent_core::wire::quote::{HashAlg, MAX_DIGEST_BYTES, PcrMask};
use tpm2_protocol::TpmUnmarshal;
use tpm2_protocol::basic::{TpmHandle, TpmUint16};
use tpm2_protocol::data::{
    Tpm2bNvPublic, Tpm2bPublic, Tpm2bSensitiveCreate, TpmAlgId, TpmaNv, TpmsNvPublic,
    TpmsSensitiveCreate, TpmtPublic, TpmtSigScheme,
};
use tpm2_protocol::frame as tpm2;

use super::Raw;
use super::frame::Answer;
use super::value::{buffer, continued, owner, password, public, selection};
use crate::tpm::error::{NV_DEFINE_SPACE, TpmError};
use crate::tpm::outbound::{Kept, OutboundCommands};
use crate::tpm::value::{bounded, secret as secret_of};

impl OutboundCommands for Raw {
    fn certify(
        &mut self,
        object: u32,
        key: u32,
        qualifying: &[u8],
    ) -> Result<SignedQuote, TpmError> {
        let command = tpm2::TpmCertifyCommand {
            handles: [TpmHandle::new(object), TpmHandle::new(key)],
            qualifying_data: buffer("the qualifying data", qualifying)?,
            in_scheme: TpmtSigScheme::default(),
        };
        let sessions = [password(), password()];
        self.ask("TPM2_Certify", &command, &sessions, 0, |answer| {
            answer.read::<tpm2::TpmCertifyResponse>()?;
            let (attest, signature) = answer.first_sized::<MAX_ATTEST_BYTES>()?;
            Ok(SignedQuote {
                attest: bounded("TPMS_ATTEST", attest.data())?,
                signature: bounded("TPMT_SIGNATURE", signature)?,
            })
        })
    }

    fn pcr_event(&mut self, pcr: u8, text: &[u8]) -> Result<(), TpmError> {
        let command = tpm2::TpmPcrEventCommand {
            handles: [TpmHandle::new(pcr.into())],
            event_data: buffer("the text of an event", text)?,
        };
        // What was extended is done; the answer's digests may be of hashes that nobody here knows.
        self.ask("TPM2_PCR_Event", &command, &[password()], 0, |_| Ok(()))
    }

    fn nv_define_counter(&mut self, index: u32, attributes: u32) -> Result<(), TpmError> {
        let what = "the attributes of a counter";
        let (attributes, _) = TpmaNv::unmarshal(&attributes.to_be_bytes())
            .map_err(|_| TpmError::Malformed { what })?;
        let command = tpm2::TpmNvDefineSpaceCommand {
            handles: [owner()],
            auth: Default::default(),
            public_info: Tpm2bNvPublic {
                inner: TpmsNvPublic {
                    nv_index: TpmHandle::new(index),
                    name_alg: TpmAlgId::Sha256,
                    attributes,
                    auth_policy: Default::default(),
                    data_size: TpmUint16::new(COUNTER_BYTES),
                },
            },
        };
        self.tell(NV_DEFINE_SPACE, &command, &[password()])
    }

    fn nv_increment(&mut self, index: u32) -> Result<(), TpmError> {
        let command = tpm2::TpmNvIncrementCommand {
            handles: [TpmHandle::new(index), TpmHandle::new(index)],
        };
        self.tell("TPM2_NV_Increment", &command, &[password()])
    }

    fn create(
        &mut self,
        parent: u32,
        template: &[u8],
        secret: &Secret<32>,
    ) -> Result<Kept, TpmError> {
        let command = tpm2::TpmCreateCommand {
            handles: [TpmHandle::new(parent)],
            in_sensitive: Tpm2bSensitiveCreate {
                inner: TpmsSensitiveCreate {
                    user_auth: Default::default(),
                    data: buffer("the secret to keep", secret.as_ref())?,
                },
            },
            in_public: Tpm2bPublic {
                inner: public(template)?,
            },
            outside_info: Default::default(),
            creation_pcr: Default::default(),
        };
        self.ask("TPM2_Create", &command, &[password()], 0, |answer| {
            answer.read::<tpm2::TpmCreateResponse>()?;
            let (private, rest) = answer.first_sized::<MAX_KEPT_BYTES>()?;
            Ok(Kept {
                private: private.data().to_vec(),
                public: Answer::contents_of("TPM2B_PUBLIC", rest)?.to_vec(),
            })
        })
    }

    fn load_kept(&mut self, parent: u32, kept: &Kept) -> Result<u32, TpmError> {
        let inner = match TpmtPublic::unmarshal(&kept.public) {
            Ok((inner, [])) => inner,
            _ => {
                return Err(TpmError::Malformed {
                    what: "a kept secret",
                });
            }
        };
        let command = tpm2::TpmLoadCommand {
            handles: [TpmHandle::new(parent)],
            in_private: buffer("a kept secret", &kept.private)?,
            in_public: Tpm2bPublic { inner },
        };
        self.load("TPM2_Load", &command, &[password()], |answer| {
            answer.read::<tpm2::TpmLoadResponse>()
        })
        .map(|(handle, _)| handle)
    }

    fn policy_pcr(&mut self, session: u32, bank: HashAlg, pcrs: PcrMask) -> Result<(), TpmError> {
        let command = tpm2::TpmPolicyPcrCommand {
            handles: [TpmHandle::new(session)],
            pcr_digest: Default::default(),
            pcrs: selection(bank, pcrs)?,
        };
        self.tell("TPM2_PolicyPCR", &command, &[])
    }

    fn unseal(&mut self, object: u32, session: u32) -> Result<Secret<32>, TpmError> {
        let command = tpm2::TpmUnsealCommand {
            handles: [TpmHandle::new(object)],
        };
        self.ask(
            "TPM2_Unseal",
            &command,
            &[continued(session)],
            0,
            |answer| secret_of("the kept secret", answer.sized::<MAX_DIGEST_BYTES>()?),
        )
    }
}

const COUNTER_BYTES: u16 = 8;
