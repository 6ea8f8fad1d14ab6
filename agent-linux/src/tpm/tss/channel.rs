//! One open way to a TPM, and what must be done to use it well: retries, room for objects, start-up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tss_esapi::constants::{CapabilityType, StartupType};
use tss_esapi::handles::{ObjectHandle, TpmHandle};
use tss_esapi::structures::CapabilityData;
use tss_esapi::{Context, Error as Code};

use super::error::{TssError, may_be_repeated};
use super::name::TctiName;

/// An open TPM.
pub(super) struct Channel {
    context: Context,
    shared: bool,
}

impl Channel {
    /// Opens the TPM and makes sure that it answers; one that waits for its start-up (a bare software TPM) gets it.
    ///
    /// # Errors
    /// [`TssError::Name`], [`TssError::Open`], or the first command's.
    pub(super) fn open(name: &TctiName) -> Result<Self, TssError> {
        let context = Context::new(name.to_conf()?).map_err(|code| TssError::Open {
            tcti: name.to_string(),
            code,
        })?;
        let mut channel = Self {
            context,
            shared: name.is_shared(),
        };
        match channel.handles(TRANSIENT_FIRST, 1) {
            Ok(_) => {}
            Err(error) if error.is_before_startup() => {
                channel.ask("TPM2_Startup", |tpm| tpm.startup(StartupType::Clear))?;
            }
            Err(TssError::Command { code, .. }) => {
                return Err(TssError::Open {
                    tcti: name.to_string(),
                    code,
                });
            }
            Err(error) => return Err(error),
        }
        Ok(channel)
    }

    /// Sends one command, again while the TPM says that it is only busy.
    ///
    /// # Errors
    /// [`TssError::Command`].
    ///
    /// # Cost
    /// Waits up to about two seconds for a busy TPM.
    pub(super) fn ask<T>(
        &mut self,
        command: &'static str,
        mut send: impl FnMut(&mut Context) -> Result<T, Code>,
    ) -> Result<T, TssError> {
        let began = log::log_enabled!(log::Level::Debug).then(Instant::now);
        let answer = until_ready(|| send(&mut self.context));
        if let Some(began) = began {
            log::debug!("{command}: {} us", began.elapsed().as_micros());
        }
        answer.map_err(|code| TssError::of(command, code))
    }

    /// Does work that loads objects or sessions; if the TPM has no place for them, makes room and does it once more.
    ///
    /// # Errors
    /// Those of `work`, or of making room.
    pub(super) fn with_room<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, TssError>,
    ) -> Result<T, TssError> {
        match work(self) {
            Err(error) if error.is_out_of_room() => {
                if self.make_room()? {
                    work(self)
                } else {
                    Err(error)
                }
            }
            result => result,
        }
    }

    /// Has the TPM say something longer than a decrypted key half: the library keeps the last answer in a buffer that it never
    /// wipes, and reuses it for the next one.
    ///
    /// # Errors
    /// [`TssError::Command`].
    pub(super) fn overwrite_last_answer(&mut self) -> Result<(), TssError> {
        self.ask("TPM2_GetCapability", |tpm| {
            tpm.get_capability(CapabilityType::TpmProperties, PROPERTIES_FIRST, PROPERTIES)
        })
        .map(drop)
    }

    /// Flushes an object or a session that this agent loaded.
    ///
    /// # Errors
    /// [`TssError::Command`].
    pub(super) fn flush(&mut self, handle: ObjectHandle) -> Result<(), TssError> {
        self.ask("TPM2_FlushContext", |tpm| tpm.flush_context(handle))
    }

    /// The handles in use from `first` on, at most `count`.
    ///
    /// # Errors
    /// [`TssError::Command`].
    pub(super) fn handles(&mut self, first: u32, count: u32) -> Result<Vec<TpmHandle>, TssError> {
        const COMMAND: &str = "TPM2_GetCapability";
        let (data, _) = self.ask(COMMAND, |tpm| {
            tpm.get_capability(CapabilityType::Handles, first, count)
        })?;
        match data {
            CapabilityData::Handles(list) => Ok(list.into_inner()),
            _ => Err(TssError::Malformed {
                what: "the TPM's list of handles",
            }),
        }
    }

    /// Whether exactly this handle is in use.
    ///
    /// # Errors
    /// [`TssError::Command`].
    pub(super) fn has_handle(&mut self, handle: u32) -> Result<bool, TssError> {
        Ok(self
            .handles(handle, 1)?
            .first()
            .is_some_and(|found| u32::from(*found) == handle))
    }

    /// Frees the places that a killed agent left taken; `false` if that isn't ours to do.
    ///
    /// Behind a resource manager each user has places of its own, and a killed one's are freed by it. A bare TPM has three
    /// in all and no one else who could free them.
    ///
    /// # Errors
    /// [`TssError::Command`].
    fn make_room(&mut self) -> Result<bool, TssError> {
        if self.shared {
            return Ok(false);
        }
        let mut stale = self.handles(TRANSIENT_FIRST, MAX_STALE)?;
        stale.extend(self.handles(LOADED_SESSION_FIRST, MAX_STALE)?);
        for handle in &stale {
            let object = self.ask("TPM2_ReadPublic", |tpm| tpm.tr_from_tpm_public(*handle))?;
            match self.flush(object) {
                // The library's book-keeping holds that policy sessions aren't flushed, after it has flushed them.
                Ok(())
                | Err(TssError::Command {
                    code: Code::WrapperError(_),
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        log::warn!(
            "freed {} places that a killed process had left taken in the TPM",
            stale.len()
        );
        Ok(true)
    }
}

/// Sends again, with growing pauses, while the TPM says that it is only busy.
fn until_ready<T>(mut send: impl FnMut() -> Result<T, Code>) -> Result<T, Code> {
    let mut pause = FIRST_PAUSE;
    loop {
        match send() {
            Err(code) if may_be_repeated(&code) && pause <= LAST_PAUSE => {
                sleep(pause);
                pause *= 2;
            }
            answer => return answer,
        }
    }
}

/// Source: TPM 2.0 Library part 2, table 29.
const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// Source: TPM 2.0 Library part 2, table 29.
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
/// The fixed properties, of which every TPM has more than [`PROPERTIES`].
///
/// Source: TPM 2.0 Library part 2, table 23.
const PROPERTIES_FIRST: u32 = 0x100;
/// Eight bytes each, of an answer that is to be longer than 64.
const PROPERTIES: u32 = 32;
/// More places than a TPM without resource manager has.
const MAX_STALE: u32 = 64;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tss_esapi::constants::response_code::Tss2ResponseCode;

    use super::*;

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
            let code_of = |rc: u32| Code::Tss2Error(Tss2ResponseCode::from(rc));
            let mut left = refusals;
            let answer = until_ready(|| {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                Err(code_of(code))
            });
            assert_eq!(answer, wanted.map_err(code_of), "{name}");
        }
    }
}
