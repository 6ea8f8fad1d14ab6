//! Opening a credential that was made for this TPM's EK and AK.

use agent_core::tpm::Opened;

use super::commands::Commands;
use super::error::TpmError;

/// `TPM2_ActivateCredential` with the loaded keys, in a policy session of its own.
///
/// # Errors
/// The TPM's.
pub(super) fn activate<C: Commands>(
    tpm: &mut C,
    ek: C::Handle,
    ak: C::Handle,
    id_object: &[u8],
    secret: &[u8],
) -> Result<Opened, TpmError> {
    let session = tpm.start_policy_session()?;
    // What the EK's policy asks for.
    let result = tpm
        .policy_secret(session)
        .and_then(|()| tpm.activate_credential(ak, ek, session, id_object, secret));
    let flushed = tpm.flush_session(session);
    let credential = result?;
    flushed?;
    Ok(credential)
}
