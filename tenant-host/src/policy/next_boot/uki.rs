//! Unified kernel images with systemd-stub: which sections the stub measures to PCR 11, and what of them firmware does to PCR 4.
//!
//! Source: systemd, `src/boot/stub.c`, `linux.c`, `src/fundamental/uki.h`; `systemd-measure(1)`. What changed between versions is
//! in [`MEASURED`] and [`inner_kernel`].

use agent_core::wire::quote::HashAlg;

use super::events::{Course, Event, Expected};
use super::pe::{Image, Section};
use super::{Boot, NextBootError, firmware};

/// A unified kernel image.
pub(super) struct Uki<'a> {
    bytes: &'a [u8],
    stub: u32,
    measured: Vec<(&'static str, &'a [u8])>,
}

impl<'a> Uki<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, NextBootError> {
        let what = "the unified kernel image";
        let image = Image::parse(bytes).map_err(|source| NextBootError::Image { what, source })?;
        let stub = stub_version(&image)?;
        let sections = image.sections();
        let named = |name: &str| {
            sections
                .iter()
                .filter(|section| section.is_called(name))
                .count()
        };
        if let Some(section) = CHOSEN.iter().find(|name| named(name) > 0) {
            return Err(NextBootError::ChosenAtBoot { section });
        }
        let mut measured = Vec::new();
        for (name, since) in MEASURED {
            if stub < since || named(name) == 0 {
                continue;
            }
            if named(name) > 1 {
                return Err(NextBootError::TwiceInUki { section: name });
            }
            for section in sections.iter().filter(|section| section.is_called(name)) {
                measured.push((name, loaded(name, section)?));
            }
        }
        match measured.first() {
            Some((".linux", _)) => Ok(Self {
                bytes,
                stub,
                measured,
            }),
            _ => Err(NextBootError::NoKernel),
        }
    }

    /// The stub's version.
    pub(super) const fn stub(&self) -> u32 {
        self.stub
    }

    /// PCR 11: name and content of each section, and the phases of the boot that had come when the node was asked.
    pub(super) fn pcr_11(&self, phases: &[String], bank: HashAlg) -> Expected {
        let mut events = Vec::new();
        for (name, content) in &self.measured {
            let zero = format!("{name}\0");
            events.push(Event::of(bank, format!("the name {name}"), zero.as_bytes()));
            let what = format!("the section {name}, {} bytes", content.len());
            events.push(Event::of(bank, what, content));
        }
        for phase in phases {
            let what = format!("the boot phase {phase:?}, by systemd in the initramfs");
            events.push(Event::of(bank, what, phase.as_bytes()));
        }
        Expected {
            pcr: 11,
            courses: vec![Course::new(events)],
        }
    }

    /// PCR 4: what firmware does before, the loaders, the image, and for some versions of the stub the kernel in it.
    pub(super) fn pcr_4(&self, boot: &Boot<'_>, bank: HashAlg) -> Result<Expected, NextBootError> {
        let image = firmware::image("the unified kernel image", self.bytes, bank)?;
        let alone = firmware::start(&boot.loaders, bank)?.then(image);
        let kernel = self
            .measured
            .first()
            .map_or(&[][..], |(_, content)| content);
        let with_kernel = || {
            let kernel = firmware::image("the kernel in it", kernel, bank)?;
            Ok::<_, NextBootError>(alone.then(kernel))
        };
        let courses = match inner_kernel(self.stub) {
            Inner::Measured => vec![with_kernel()?],
            Inner::Unmeasured => vec![alone],
            Inner::Either => vec![with_kernel()?, alone],
        };
        Ok(Expected { pcr: 4, courses })
    }
}

/// Whether firmware measures the kernel in a unified kernel image.
enum Inner {
    Measured,
    Unmeasured,
    Either,
}

/// Up to 252 the stub has firmware load it in each boot, from 258 on it does that itself. In between it depends on Secure Boot;
/// the image's own measurement covers its kernel, so that both courses can be allowed.
const fn inner_kernel(stub: u32) -> Inner {
    match stub {
        ..=252 => Inner::Measured,
        253..=257 => Inner::Either,
        258.. => Inner::Unmeasured,
    }
}

/// A section as it lies in memory; one that is longer there than in the file isn't known to be the same for all versions.
fn loaded<'a>(name: &'static str, section: &Section<'a>) -> Result<&'a [u8], NextBootError> {
    let length = usize::try_from(section.loaded).ok();
    let content = length.and_then(|length| section.data.get(..length));
    content.filter(|content| !content.is_empty()).ok_or({
        NextBootError::PaddedSection {
            section: name,
            loaded: section.loaded,
            have: section.data.len(),
        }
    })
}

/// The version that the stub says it has: `#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####`.
fn stub_version(image: &Image<'_>) -> Result<u32, NextBootError> {
    let mut sections = image.sections().iter();
    let magic = sections.find(|section| section.is_called(".sdmagic"));
    let text = magic.map_or(&[][..], |section| section.data);
    let text = String::from_utf8_lossy(text.get(..MAX_MAGIC_BYTES).unwrap_or(text));
    let version = text.split_once(STUB).map(|(_, rest)| rest);
    let digits =
        version.and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next());
    match digits.and_then(|digits| digits.parse().ok()) {
        None => Err(NextBootError::NoStub),
        Some(found @ ..FIRST) => Err(NextBootError::OldStub { found }),
        Some(version) => Ok(version),
    }
}

/// Sections that are measured, in that order, and by which version of the stub first. `.pcrsig` signs their measurements.
const MEASURED: [(&str, u32); 11] = [
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 256),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 252),
    (".hwids", 257),
];

/// Sections of which the stub takes those that fit the machine, or what its user chooses.
const CHOSEN: [&str; 3] = [".profile", ".dtbauto", ".efifw"];

/// What stands before the version.
const STUB: &str = "LoaderInfo: systemd-stub ";

/// The first stub that measures to PCR 11 in that way.
const FIRST: u32 = 252;

/// More than any version's text.
const MAX_MAGIC_BYTES: usize = 256;
