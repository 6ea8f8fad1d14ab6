//! What can go wrong between the agent and its TPM.

use std::fmt;
use std::io;

use super::code::ResponseCode;

/// Why the TPM didn't do what was asked.
///
/// `Display` names the command, the response code and the next step; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TpmError {
    /// The name of the TPM (`--tcti`) can't be used.
    Name {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing answers there.
    Open {
        /// The name of the TPM.
        tcti: String,
        /// Why.
        cause: Cause,
    },
    /// A command failed.
    Command {
        /// Its name in the TPM 2.0 library specification.
        command: &'static str,
        /// Why.
        cause: Cause,
    },
    /// The endorsement hierarchy has a password, so keys can't be made under it.
    EndorsementPassword,
    /// The owner hierarchy has a password, so nothing can be made under it.
    OwnerPassword,
    /// What is at an NV index is no counter of this agent's.
    NoCounter {
        /// The index.
        index: u32,
    },
    /// The TPM was opened without the key that halves are encrypted to.
    NoTransportKey,
    /// The bank isn't allocated in this TPM, or lacks a PCR.
    NoBank {
        /// The bank's name.
        bank: &'static str,
    },
    /// PCRs moved during each of several reads.
    Unsteady {
        /// How often the read was tried.
        tries: usize,
    },
    /// A key came out otherwise than at the start of the agent: another TPM answers now, or it was cleared.
    Changed {
        /// Which key.
        key: &'static str,
    },
    /// A value doesn't have the size that it must have.
    Size {
        /// Which value.
        what: &'static str,
        /// Bytes wanted, or at most wanted.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// A value isn't what the specification says it must be.
    Malformed {
        /// Which value.
        what: &'static str,
    },
}

/// Who refused, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The TPM, or tpm2-tss on the way to it.
    Code(ResponseCode),
    /// The system, on the way to the TPM.
    System(io::ErrorKind),
    /// tss-esapi, which found a value that it doesn't take.
    Wrapper(String),
}

impl TpmError {
    /// Whether the TPM's few places for objects or sessions are taken.
    pub(super) fn is_out_of_room(&self) -> bool {
        self.code().is_some_and(ResponseCode::is_out_of_room)
    }

    /// Whether the TPM waits for `TPM2_Startup`.
    pub(super) fn is_before_startup(&self) -> bool {
        self.code().is_some_and(ResponseCode::is_before_startup)
    }

    fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Command {
                cause: Cause::Code(code),
                ..
            } => Some(*code),
            _ => None,
        }
    }

    /// The error of a command that failed.
    pub(super) fn of(command: &'static str, cause: Cause) -> Self {
        match cause {
            Cause::Code(code) if command == CREATE_PRIMARY && code.is_bad_password() => {
                Self::EndorsementPassword
            }
            Cause::Code(code) if OF_THE_OWNER.contains(&command) && code.is_bad_password() => {
                Self::OwnerPassword
            }
            cause => Self::Command { command, cause },
        }
    }
}

/// The command whose bad authorization means a password on the endorsement hierarchy.
pub(super) const CREATE_PRIMARY: &str = "TPM2_CreatePrimary";
/// The same, as errors tell it apart from the other hierarchy's.
pub(super) const CREATE_OWNER_PRIMARY: &str = "TPM2_CreatePrimary of the owner hierarchy";
pub(super) const NV_DEFINE_SPACE: &str = "TPM2_NV_DefineSpace";
/// The commands whose bad authorization means a password on the owner hierarchy.
const OF_THE_OWNER: [&str; 2] = [CREATE_OWNER_PRIMARY, NV_DEFINE_SPACE];

impl fmt::Display for TpmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { given, reason } => write!(
                f,
                "the TPM's name {given:?} can't be used: {reason}; write device:/dev/tpmrm0 or swtpm:host=127.0.0.1,port=2321"
            ),
            Self::Open { tcti, cause } => write!(
                f,
                "no TPM answers at {tcti} ({cause}); check that it exists, that this user may open it, and --tcti"
            ),
            Self::Command { command, cause } => write!(f, "{command} failed: {cause}"),
            Self::EndorsementPassword => write!(
                f,
                "{CREATE_PRIMARY} was refused: the TPM's endorsement hierarchy has a password (0x9a2); \
                 clear it (tpm2_changeauth -c endorsement -p OLD), the agent has no use for one"
            ),
            Self::OwnerPassword => f.write_str(
                "the TPM's owner hierarchy has a password (0x9a2), which the agent isn't told; \
                 clear it (tpm2_changeauth -c owner -p OLD) for as long as it takes",
            ),
            Self::NoCounter { index } => write!(
                f,
                "NV index {index:#010x} is no counter that the agent can use: choose another floor_index, \
                 or remove it (tpm2_nvundefine {index:#010x})"
            ),
            Self::NoTransportKey => {
                f.write_str("no key half can come here: the transport key wasn't made")
            }
            Self::NoBank { bank } => write!(
                f,
                "the TPM has no {bank} bank of PCRs, or it lacks one of them; choose another tpm_hash_alg"
            ),
            Self::Unsteady { tries } => {
                write!(f, "PCRs changed during each of {tries} reads; try again")
            }
            Self::Changed { key } => write!(
                f,
                "the {key} isn't the one of the agent's start: the TPM was changed or cleared; restart the agent"
            ),
            Self::Size { what, need, have } => {
                write!(f, "{what} has {have} bytes where {need} are the measure")
            }
            Self::Malformed { what } => write!(f, "{what} is malformed"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::System(kind) => kind.fmt(f),
            Self::Wrapper(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for TpmError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let rows = [
            (
                CREATE_PRIMARY,
                0x9A2,
                "endorsement hierarchy has a password",
                false,
            ),
            ("TPM2_RSA_Decrypt", 0x9A2, "TPM2_RSA_Decrypt failed", false),
            (CREATE_PRIMARY, 0x902, "0x902", true),
            ("TPM2_StartAuthSession", 0x903, "0x903", true),
            ("TPM2_Quote", 0x921, "TPM_RC_LOCKOUT", false),
            ("TPM2_Quote", 0x000A_000A, "0xa000a", false),
        ];
        for (command, code, text, is_out_of_room) in rows {
            let error = TpmError::of(command, Cause::Code(ResponseCode(code)));
            assert!(error.to_string().contains(text), "{code:x}: {error}");
            assert_eq!(error.is_out_of_room(), is_out_of_room, "{code:x}");
        }
    }
}
