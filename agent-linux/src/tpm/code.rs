//! Response codes of a TPM, and of tpm2-tss before it.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use super::error::Cause;

/// A TPM's response code other than success; bits 16 to 23 say which layer of tpm2-tss it is from, 0 for the TPM.
///
/// Source: TPM 2.0 Library part 1, section 39; TCG TSS 2.0 Overview, section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

impl ResponseCode {
    /// Whether the TPM's few places for objects or sessions are taken.
    pub(super) fn is_out_of_room(self) -> bool {
        matches!(
            self.base(),
            OBJECT_MEMORY | SESSION_MEMORY | MEMORY | SESSION_HANDLES
        )
    }

    /// Whether the TPM waits for `TPM2_Startup`.
    pub(super) fn is_before_startup(self) -> bool {
        self.base() == INITIALIZE
    }

    /// Whether an authorization value is wrong.
    pub(super) fn is_bad_password(self) -> bool {
        self.base() == BAD_AUTH
    }

    /// Whether a command that failed with this code may simply be sent again.
    fn may_be_repeated(self) -> bool {
        matches!(self.base(), RETRY | TESTING | YIELDED | NV_RATE)
    }

    /// The code without the number of the parameter, handle or session that it is about. The layers of tpm2-tss above the
    /// TPM say the TPM's own codes with their number before them.
    fn base(self) -> u32 {
        const LAYERS_OF_THE_TPM: [u32; 2] = [0, RESOURCE_MANAGER];
        if !LAYERS_OF_THE_TPM.contains(&(self.0 & !0xFFFF)) {
            return self.0;
        }
        let code = self.0 & 0xFFFF;
        if code & FORMAT_ONE == 0 {
            code
        } else {
            code & (FORMAT_ONE | 0x3F)
        }
    }

    fn name(self) -> Option<&'static str> {
        let base = self.base();
        NAMES
            .iter()
            .find_map(|(code, name)| (*code == base).then_some(*name))
    }
}

impl fmt::Display for ResponseCode {
    /// The specification's name, what it is about, and the code as other TPM tools print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = self.0 & !0xFFFF;
        match self.name() {
            Some(name) => f.write_str(name)?,
            None if layer == 0 => f.write_str("an unknown response code")?,
            None => f.write_str("tpm2-tss's own error")?,
        }
        if layer == 0 && self.0 & FORMAT_ONE != 0 {
            let number = self.0 >> 8 & 0xF;
            match number {
                _ if self.0 & PARAMETER != 0 => write!(f, " of parameter {number}")?,
                0 => {}
                1..=7 => write!(f, " of handle {number}")?,
                _ => write!(f, " of session {}", number & 7)?,
            }
        }
        write!(f, " ({:#x})", self.0)
    }
}

/// Sends again, with growing pauses, while the TPM says that it is only busy.
///
/// # Cost
/// Waits up to about two seconds.
pub(super) fn until_ready<T>(mut send: impl FnMut() -> Result<T, Cause>) -> Result<T, Cause> {
    let mut pause = FIRST_PAUSE;
    loop {
        match send() {
            Err(Cause::Code(code)) if code.may_be_repeated() && pause <= LAST_PAUSE => {
                sleep(pause);
                pause *= 2;
            }
            answer => return answer,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// tpm2-tss's resource manager, which answers with the TPM's codes.
///
/// Source: TCG TSS 2.0 Overview, table 3.
const RESOURCE_MANAGER: u32 = 11 << 16;
/// A code with a number: about a parameter, a handle or a session.
const FORMAT_ONE: u32 = 0x80;
const PARAMETER: u32 = 0x40;

const INITIALIZE: u32 = 0x100;
const BAD_AUTH: u32 = 0x0A2;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
const MEMORY: u32 = 0x904;
const SESSION_HANDLES: u32 = 0x905;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90A;
const NV_RATE: u32 = 0x920;
const RETRY: u32 = 0x922;

/// The codes that the agent's commands can meet.
///
/// Source: TPM 2.0 Library part 2, table 16.
const NAMES: [(u32, &str); 45] = [
    (INITIALIZE, "TPM_RC_INITIALIZE"),
    (0x101, "TPM_RC_FAILURE"),
    (0x120, "TPM_RC_DISABLED"),
    (0x121, "TPM_RC_EXCLUSIVE"),
    (0x124, "TPM_RC_AUTH_TYPE"),
    (0x125, "TPM_RC_AUTH_MISSING"),
    (0x126, "TPM_RC_POLICY"),
    (0x127, "TPM_RC_PCR"),
    (0x128, "TPM_RC_PCR_CHANGED"),
    (0x12D, "TPM_RC_UPGRADE"),
    (0x12F, "TPM_RC_AUTH_UNAVAILABLE"),
    (0x130, "TPM_RC_REBOOT"),
    (0x142, "TPM_RC_COMMAND_SIZE"),
    (0x143, "TPM_RC_COMMAND_CODE"),
    (0x146, "TPM_RC_NV_RANGE"),
    (0x149, "TPM_RC_NV_AUTHORIZATION"),
    (0x14A, "TPM_RC_NV_UNINITIALIZED"),
    (0x153, "TPM_RC_NEEDS_TEST"),
    (0x081, "TPM_RC_ASYMMETRIC"),
    (0x082, "TPM_RC_ATTRIBUTES"),
    (0x083, "TPM_RC_HASH"),
    (0x084, "TPM_RC_VALUE"),
    (0x085, "TPM_RC_HIERARCHY"),
    (0x08A, "TPM_RC_TYPE"),
    (0x08B, "TPM_RC_HANDLE"),
    (0x08E, "TPM_RC_AUTH_FAIL"),
    (0x092, "TPM_RC_SCHEME"),
    (0x095, "TPM_RC_SIZE"),
    (0x096, "TPM_RC_SYMMETRIC"),
    (0x09A, "TPM_RC_INSUFFICIENT"),
    (0x09D, "TPM_RC_POLICY_FAIL"),
    (0x09F, "TPM_RC_INTEGRITY"),
    (BAD_AUTH, "TPM_RC_BAD_AUTH"),
    (0x0A6, "TPM_RC_CURVE"),
    (OBJECT_MEMORY, "TPM_RC_OBJECT_MEMORY"),
    (SESSION_MEMORY, "TPM_RC_SESSION_MEMORY"),
    (MEMORY, "TPM_RC_MEMORY"),
    (SESSION_HANDLES, "TPM_RC_SESSION_HANDLES"),
    (YIELDED, "TPM_RC_YIELDED"),
    (0x907, "TPM_RC_LOCALITY"),
    (0x909, "TPM_RC_CANCELED"),
    (TESTING, "TPM_RC_TESTING"),
    (NV_RATE, "TPM_RC_NV_RATE"),
    (0x921, "TPM_RC_LOCKOUT"),
    (RETRY, "TPM_RC_RETRY"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let rows = [
            (0x9A2, "TPM_RC_BAD_AUTH of session 1 (0x9a2)"),
            (0x921, "TPM_RC_LOCKOUT (0x921)"),
            (0x2D5, "TPM_RC_SIZE of parameter 2 (0x2d5)"),
            (0x18B, "TPM_RC_HANDLE of handle 1 (0x18b)"),
            (0x095, "TPM_RC_SIZE (0x95)"),
            (0x5FF, "an unknown response code of parameter 5 (0x5ff)"),
            (0x400, "an unknown response code (0x400)"),
            (0x000B_0902, "TPM_RC_OBJECT_MEMORY (0xb0902)"),
            (0x000A_000A, "tpm2-tss's own error (0xa000a)"),
        ];
        for (code, text) in rows {
            assert_eq!(ResponseCode(code).to_string(), text);
        }
    }

    #[test]
    fn kinds() {
        let rows = [
            ("TPM_RC_OBJECT_MEMORY", 0x902, true, false),
            ("the same of a resource manager", 0xB_0902, true, false),
            ("another layer's 0x902", 0xA_0902, false, false),
            ("TPM_RC_SESSION_HANDLES", 0x905, true, false),
            ("TPM_RC_BAD_AUTH", 0x9A2, false, true),
            ("TPM_RC_AUTH_FAIL", 0x98E, false, false),
        ];
        for (name, code, room, password) in rows {
            let code = ResponseCode(code);
            assert_eq!(code.is_out_of_room(), room, "{name}");
            assert_eq!(code.is_bad_password(), password, "{name}");
        }
    }

    #[test]
    fn busy_tpms_are_asked_again() {
        let rows = [
            ("TPM_RC_RETRY", 0x922, 3, Ok(())),
            ("TPM_RC_TESTING", 0x90A, 1, Ok(())),
            ("TPM_RC_YIELDED", 0x908, 1, Ok(())),
            ("TPM_RC_LOCKOUT", 0x921, 1, Err(0x921)),
            ("TPM_RC_OBJECT_MEMORY", 0x902, 1, Err(0x902)),
        ];
        for (name, code, refusals, wanted) in rows {
            let cause = |code| Cause::Code(ResponseCode(code));
            let mut left = refusals;
            let answer = until_ready(|| {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                Err(cause(code))
            });
            assert_eq!(answer, wanted.map_err(cause), "{name}");
        }
    }
}
