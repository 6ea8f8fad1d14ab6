//! What can go wrong between the agent and its TPM.

use std::fmt;

use tss_esapi::Error as Code;
use tss_esapi::constants::response_code::{Tss2ResponseCode, Tss2ResponseCodeKind as Kind};

/// Why the TPM didn't do what was asked.
///
/// `Display` names the command, the response code and the next step; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TssError {
    /// The name of the TPM (`--tcti`) can't be read.
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
        /// The library's code.
        code: Code,
    },
    /// A command failed.
    Command {
        /// Its name in the TPM 2.0 library specification.
        command: &'static str,
        /// The response code.
        code: Code,
    },
    /// The endorsement hierarchy has a password, so keys can't be made under it.
    EndorsementPassword,
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

impl TssError {
    /// Whether the TPM's few places for objects or sessions are taken.
    pub(super) fn is_out_of_room(&self) -> bool {
        matches!(
            self.kind(),
            Some(Kind::ObjectMemory | Kind::SessionMemory | Kind::SessionHandles | Kind::Memory)
        )
    }

    /// Whether the TPM waits for `TPM2_Startup`.
    pub(super) fn is_before_startup(&self) -> bool {
        self.kind() == Some(Kind::Initialize)
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Command {
                code: Code::Tss2Error(code),
                ..
            } => code.kind(),
            _ => None,
        }
    }

    /// The error of a command's response code.
    pub(super) fn of(command: &'static str, code: Code) -> Self {
        match code {
            Code::Tss2Error(rc)
                if command == CREATE_PRIMARY && rc.kind() == Some(Kind::BadAuth) =>
            {
                Self::EndorsementPassword
            }
            code => Self::Command { command, code },
        }
    }
}

/// The command whose bad authorization means a password on the endorsement hierarchy.
pub(super) const CREATE_PRIMARY: &str = "TPM2_CreatePrimary";

/// Whether a command that failed with this code may simply be sent again.
pub(super) fn may_be_repeated(code: &Code) -> bool {
    matches!(code, Code::Tss2Error(rc)
        if matches!(rc.kind(), Some(Kind::Retry | Kind::Testing | Kind::Yielded | Kind::NvRate)))
}

impl fmt::Display for TssError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { given, reason } => write!(
                f,
                "the TPM's name {given:?} can't be used: {reason}; write device:/dev/tpmrm0 or swtpm:host=127.0.0.1,port=2321"
            ),
            Self::Open { tcti, code } => write!(
                f,
                "no TPM answers at {tcti} ({}); check that it exists, that this user may open it, and --tcti",
                Hex(code)
            ),
            Self::Command { command, code } => {
                write!(f, "{command} failed: {code} ({})", Hex(code))
            }
            Self::EndorsementPassword => write!(
                f,
                "{CREATE_PRIMARY} was refused: the TPM's endorsement hierarchy has a password (0x9a2); \
                 clear it (tpm2_changeauth -c endorsement -p OLD), the agent has no use for one"
            ),
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

impl std::error::Error for TssError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { code, .. } | Self::Command { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// The code as a number, as other TPM tools print it.
struct Hex<'a>(&'a Code);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Code::Tss2Error(Tss2ResponseCode::FormatZero(rc)) => rc.fmt(f),
            Code::Tss2Error(Tss2ResponseCode::FormatOne(rc)) => rc.fmt(f),
            Code::Tss2Error(Tss2ResponseCode::Success) => f.write_str("no code"),
            Code::WrapperError(kind) => kind.fmt(f),
        }
    }
}

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
            ("TPM2_Quote", 0x921, "lockout", false),
            ("TPM2_Quote", 0x000A_000A, "0xa000a", false),
        ];
        for (command, code, text, is_out_of_room) in rows {
            let error = TssError::of(command, Code::Tss2Error(code.into()));
            assert!(error.to_string().contains(text), "{code:x}: {error}");
            assert_eq!(error.is_out_of_room(), is_out_of_room, "{code:x}");
        }
    }
}
