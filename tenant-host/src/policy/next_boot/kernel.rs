//! A kernel that firmware or a boot loader starts by its EFI stub, and what that stub measures.
//!
//! Source: Linux, `drivers/firmware/efi/libstub/efi-stub-helper.c` (`efi_convert_cmdline`, `efi_load_initrd`), since 6.1;
//! `Documentation/arch/x86/boot.rst` for the version's text.

use agent_core::wire::quote::HashAlg;

use super::events::{Course, Event, Expected};
use super::{Boot, NextBootError, firmware};

/// PCR 9 for a kernel of its own: the load options, then the initramfs.
pub(super) fn pcr_9(boot: &Boot<'_>, command_line: &str, bank: HashAlg) -> Expected {
    let initrd = (!boot.initrds.is_empty()).then(|| Event {
        what: format!("the initramfs, {} bytes", total(&boot.initrds)),
        digest: bank.digest(boot.initrds.iter().copied()),
    });
    let mut courses = Vec::new();
    for (text, end) in [(command_line, ""), (command_line, "\0")] {
        let options = Course::new(load_options(text, end, bank));
        match &initrd {
            None => courses.push(options),
            Some(initrd) => {
                courses.push(options.then(initrd.clone()));
                if stub_loads(boot, command_line) {
                    courses.push(options);
                }
            }
        }
        if text.is_empty() {
            break;
        }
    }
    Expected { pcr: 9, courses }
}

/// Whether the kernel itself reads the initramfs that its command line names. Kernels before 6.13 don't measure what they
/// read so; PCR 4 tells which kernel it was, so that both courses can be allowed.
pub(super) fn stub_loads(boot: &Boot<'_>, command_line: &str) -> bool {
    boot.loaders.is_empty() && names_initrd(command_line)
}

/// Whether a command line has the kernel read an initramfs from the partition that it was started from.
pub(super) fn names_initrd(command_line: &str) -> bool {
    let mut words = command_line.split_ascii_whitespace();
    words.any(|word| word.starts_with("initrd="))
}

/// PCR 4: what firmware does before, the loaders, and the kernel.
pub(super) fn pcr_4(
    boot: &Boot<'_>,
    kernel: &[u8],
    bank: HashAlg,
) -> Result<Expected, NextBootError> {
    refuse_old(kernel)?;
    let kernel = firmware::image("the kernel", kernel, bank)?;
    let course = firmware::start(&boot.loaders, bank)?.then(kernel);
    Ok(Expected {
        pcr: 4,
        courses: vec![course],
    })
}

/// Load options are UCS-2; boot loaders end them with a zero, boot entries needn't.
fn load_options(text: &str, end: &str, bank: HashAlg) -> Option<Event> {
    let units = text.encode_utf16().chain(end.encode_utf16());
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let zero = if end.is_empty() { "" } else { " and a zero" };
    let what = format!("the load options, which are the command line \"{text}\"{zero}");
    // The stub doesn't measure what isn't there.
    (!text.is_empty()).then(|| Event::of(bank, what, &bytes))
}

/// Refuses a kernel whose stub measures less: before 6.1 the command line isn't in PCR 9.
fn refuse_old(kernel: &[u8]) -> Result<(), NextBootError> {
    match version(kernel) {
        Some((release, version)) if version < FIRST => Err(NextBootError::OldKernel { release }),
        _ => Ok(()),
    }
}

/// The release of an x86 kernel, and its two numbers. Other architectures' images don't tell it.
pub(super) fn version(kernel: &[u8]) -> Option<(String, (u32, u32))> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = kernel.get(0x20e..0x210)?.try_into().ok()?;
    let start = 0x200 + usize::from(u16::from_le_bytes(offset));
    let text = kernel.get(start..)?;
    let text = text.get(..MAX_RELEASE_BYTES).unwrap_or(text);
    let release = text.split(|byte| *byte == b' ' || *byte == 0).next()?;
    let release = std::str::from_utf8(release).ok()?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((release.to_owned(), (next()?, next()?)))
}

fn total(pieces: &[&[u8]]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// The first kernel whose stub measures the command line too.
const FIRST: (u32, u32) = (6, 1);

/// `__NEW_UTS_LEN`.
const MAX_RELEASE_BYTES: usize = 64;
