//! The commands that contact nothing but the TPM: `cap` and `floor`.

use std::time::Instant;

use agent_core::wire::statement::CAP_TEXT;

use crate::config::{CapConfig, FloorConfig};
use crate::exit::Exit;
use crate::tpm::{HostCommands, PlainTpm, TpmError};

/// Extends the cap PCR in every bank. [`Exit::Done`]: this boot is capped; [`Exit::NoTpm`]: it may not be.
#[must_use]
pub fn cap(config: &CapConfig) -> Exit {
    let until = Instant::now() + config.deadline;
    let pcr = config.cap_pcr;
    let capped = PlainTpm::<HostCommands>::open(&config.tcti, until)
        .and_then(|mut tpm| tpm.extend_all_banks(pcr, CAP_TEXT));
    match capped {
        Ok(()) => {
            log::info!("PCR {pcr} is capped in every bank: nothing more is released to this boot");
            Exit::Done
        }
        Err(error) => {
            log::error!("this boot may not be capped: {error}");
            Exit::NoTpm
        }
    }
}

/// The counter's value, made before if it is to be, as a line of text; [`Exit::Refused`] if there is none.
///
/// # Errors
/// How the program ends instead; the log says why.
pub fn floor(config: &FloorConfig) -> Result<String, Exit> {
    let until = Instant::now() + config.deadline;
    let value = PlainTpm::<HostCommands>::open(&config.tcti, until).and_then(|mut tpm| {
        if config.create {
            tpm.create_counter(config.floor_index).map(Some)
        } else {
            tpm.counter(config.floor_index)
        }
    });
    match value {
        Ok(Some(value)) => Ok(format!("{value}\n")),
        Ok(None) => {
            let index = config.floor_index;
            log::error!(
                "there is no counter at {index:#010x}; keyhalf-agent floor --create makes it"
            );
            Err(Exit::Refused)
        }
        Err(error) => {
            log::error!("{error}");
            Err(match error {
                TpmError::NoCounter { .. } | TpmError::OwnerPassword => Exit::Refused,
                _ => Exit::NoTpm,
            })
        }
    }
}
