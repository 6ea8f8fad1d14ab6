//! Opening a credential that was made for this TPM's EK and AK.

use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Digest, EncryptedSecret, IdObject, Nonce, SymmetricDefinition};

use super::PASSWORD;
use super::channel::Channel;
use super::error::TssError;

/// `TPM2_ActivateCredential` with the loaded keys, in a policy session of its own.
pub(super) fn activate(
    channel: &mut Channel,
    ek: KeyHandle,
    ak: KeyHandle,
    blob: &IdObject,
    secret: &EncryptedSecret,
) -> Result<Digest, TssError> {
    let session = channel
        .ask("TPM2_StartAuthSession", |tpm| {
            let (kind, hash) = (SessionType::Policy, HashingAlgorithm::Sha256);
            tpm.start_auth_session(
                None,
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                hash,
            )
        })?
        .ok_or(TssError::Malformed {
            what: "the policy session",
        })?;
    let result = satisfy_ek_policy(channel, session).and_then(|()| {
        channel.ask("TPM2_ActivateCredential", |tpm| {
            tpm.execute_with_sessions((PASSWORD, Some(session), None), |tpm| {
                tpm.activate_credential(ak, ek, blob.clone(), secret.clone())
            })
        })
    });
    let flushed = channel.flush(SessionHandle::from(session).into());
    let credential = result?;
    flushed?;
    Ok(credential)
}

/// `PolicySecret(TPM_RH_ENDORSEMENT)`, which the EK's policy asks for.
fn satisfy_ek_policy(channel: &mut Channel, session: AuthSession) -> Result<(), TssError> {
    let session = PolicySession::try_from(session).map_err(|_| TssError::Malformed {
        what: "the policy session",
    })?;
    channel
        .ask("TPM2_PolicySecret", |tpm| {
            tpm.execute_with_session(PASSWORD, |tpm| {
                let (nonce, reference) = (Nonce::default(), Nonce::default());
                tpm.policy_secret(
                    session,
                    AuthHandle::Endorsement,
                    nonce,
                    Digest::default(),
                    reference,
                    None,
                )
            })
        })
        .map(|_| ())
}
