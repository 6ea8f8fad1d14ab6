//! What the next boot will measure, computed from the files that it will start: so that an update is allowed before it is
//! booted, beside the boot that it replaces.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`pe`] | EFI images, and what of them is hashed |
//! | `firmware` | what UEFI firmware measures to PCR 4 |
//! | `kernel` | what a kernel's own EFI stub measures to PCR 9 |
//! | `uki` | what systemd-stub measures to PCR 11 |
//! | [`events`] | measurements, and the values that they give |
//! | [`merge`] | these values beside those that are allowed now |

use agent_core::wire::quote::HashAlg;
use verifier_host::policy::tpm::PolicyError;

pub mod events;
mod firmware;
mod kernel;
pub mod merge;
pub mod pe;
mod uki;

use events::{Course, Expected};
use pe::PeError;
use uki::Uki;

/// The files of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot<'a> {
    /// EFI programs that are started before, each by the one before it.
    pub loaders: Vec<&'a [u8]>,
    /// What they start.
    pub kind: Kind<'a>,
    /// Initramfs images that the kernel unpacks, one after the other.
    pub initrds: Vec<&'a [u8]>,
}

/// What is booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A kernel, by its own EFI stub.
    Kernel {
        /// Its image.
        image: &'a [u8],
        /// Its command line.
        command_line: &'a str,
    },
    /// A unified kernel image.
    Unified {
        /// The image.
        image: &'a [u8],
        /// Phases of the boot that systemd has measured by the time the node is asked.
        phases: &'a [String],
    },
}

/// What the next boot will measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// PCR by PCR, ascending.
    pub pcrs: Vec<Expected>,
    /// What has to be known about it.
    pub notes: Vec<String>,
}

/// Why a boot can't be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NextBootError {
    /// A file that firmware wouldn't start.
    #[error("{what} can't be booted by UEFI firmware: {source}")]
    Image {
        /// Which one.
        what: &'static str,
        /// Why not.
        source: PeError,
    },
    /// A kernel that measures less.
    #[error(
        "the kernel is {release}, and kernels before 6.1 don't measure their command line: PCR 9 wouldn't tell what it was"
    )]
    OldKernel {
        /// Its release.
        release: String,
    },
    /// A command line that names an initramfs, and none was given.
    #[error("the command line has initrd= in it: give that file with --initrd")]
    MissingInitrd,
    /// An image without systemd-stub.
    #[error(
        "the unified kernel image has no systemd-stub in it (no .sdmagic section): only that stub's measurements are known. A kernel of its own is given with --kernel"
    )]
    NoStub,
    /// A stub from before PCR 11.
    #[error("the unified kernel image has systemd-stub {found}; PCR 11 is predicted from 252 on")]
    OldStub {
        /// Its version.
        found: u32,
    },
    /// An image without a kernel.
    #[error("the unified kernel image has no .linux section")]
    NoKernel,
    /// A section that stands twice.
    #[error("the unified kernel image has two sections {section}")]
    TwiceInUki {
        /// Its name.
        section: &'static str,
    },
    /// A section of which one is chosen at boot.
    #[error(
        "the unified kernel image has a section {section}: what of it is measured is chosen as it boots, so that PCR 11 can't be told from the file"
    )]
    ChosenAtBoot {
        /// Its name.
        section: &'static str,
    },
    /// A section that is empty, or longer in memory than in the file.
    #[error(
        "the section {section} of the unified kernel image has {loaded} bytes in memory and {have} in the file: what the stub measures of it can't be told"
    )]
    PaddedSection {
        /// Its name.
        section: &'static str,
        /// In memory.
        loaded: u32,
        /// In the file.
        have: usize,
    },
    /// The present policy.
    #[error("the present policy: {0}")]
    Policy(#[from] PolicyError),
    /// The present policy isn't JSON that can be merged.
    #[error("the present policy: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// The present policy has more than lists of values.
    #[error(
        "the present policy has {name:?} in it, which can't be merged with values of single PCRs"
    )]
    NotMergeable {
        /// The member.
        name: String,
    },
    /// The present policy is for another bank.
    #[error(
        "the present policy has PCRs without a {bank} value: --bank names the bank that the node is quoted in"
    )]
    OtherBank {
        /// The bank.
        bank: &'static str,
    },
    /// A PCR that the policy fixes and the next boot will change, in a way that isn't known.
    #[error(
        "the present policy fixes PCR {pcr}, which the next boot may change and whose value can't be told from the files: the next boot would be refused. --without {pcr} takes PCR {pcr} out of the policy"
    )]
    Unpredicted {
        /// The PCR.
        pcr: u8,
    },
}

impl NextBootError {
    /// Whether other options would do, with the same files.
    #[must_use]
    pub const fn is_of_options(&self) -> bool {
        matches!(
            self,
            Self::MissingInitrd | Self::OtherBank { .. } | Self::Unpredicted { .. }
        )
    }
}

/// Computes what a boot will measure.
///
/// # Errors
/// [`NextBootError`], with the file and what is the matter with it.
pub fn predict(boot: &Boot<'_>, bank: HashAlg) -> Result<Prediction, NextBootError> {
    let mut notes = Vec::new();
    let pcrs = match boot.kind {
        Kind::Kernel {
            image,
            command_line,
        } => {
            if kernel::names_initrd(command_line) && boot.initrds.is_empty() {
                return Err(NextBootError::MissingInitrd);
            }
            if kernel::stub_loads(boot, command_line) {
                notes.push(UNMEASURED_INITRD.to_owned());
            } else if boot.loaders.is_empty() && !boot.initrds.is_empty() {
                notes.push(HANDED_OVER.to_owned());
            }
            if kernel::version(image).is_none() {
                notes.push(UNKNOWN_KERNEL.to_owned());
            }
            let images = kernel::pcr_4(boot, image, bank)?;
            vec![images, kernel::pcr_9(boot, command_line, bank)]
        }
        Kind::Unified { image, phases } => {
            let uki = Uki::parse(image)?;
            notes.push(format!("note: the image has systemd-stub {}", uki.stub()));
            let mut pcrs = vec![uki.pcr_4(boot, bank)?, uki.pcr_11(phases, bank)];
            // systemd-boot measures there what it passes on, which depends on its version.
            if boot.loaders.is_empty() {
                notes.push(NOTHING_BESIDE.to_owned());
                pcrs.extend([12, 13].map(|pcr| Expected {
                    pcr,
                    courses: vec![Course::default()],
                }));
            }
            pcrs
        }
    };
    Ok(Prediction { pcrs, notes })
}

const UNMEASURED_INITRD: &str = "warning: initrd= on the command line of a boot entry: kernels before 6.13 don't measure an initramfs that they read so, and whoever can write to that partition can replace it unseen. A unified kernel image, or a boot loader that hands the initramfs over (--loader), has it measured";

const HANDED_OVER: &str = "note: the initramfs is taken to be handed over by the firmware, as QEMU's and U-Boot's can; a PC's needs initrd= in --cmdline, or a --loader";

const UNKNOWN_KERNEL: &str =
    "note: the kernel's version can't be read; what kernels from 6.1 on do is assumed";

const NOTHING_BESIDE: &str = "note: PCRs 12 and 13 are to stay as they are after a reset: no command line, credentials or extensions from outside the image. --without 12 and --without 13 allow these";

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
