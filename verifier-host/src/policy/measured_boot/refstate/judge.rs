//! The example policy over a log: each event by its PCR and type, then what was collected.
//!
//! It takes the logs that Keylime's takes, with two differences, both stricter. Keylime accepts an event if *any* of its digests
//! is right; only the quoted bank's counts here, since the others were not quoted. And Keylime believes the data of variables,
//! actions and command lines as they stand in the log; here it has to be what was measured. GRUB's commands stay as free as in
//! Keylime's, so that a policy over them needs our own rules.
//!
//! Source: `Example.refstate_to_test` in Keylime 7.14.3, over what `tpm2_eventlog` 5.4 prints.

use agent_core::wire::quote::{Digest, HashAlg};

use super::{Digests, Firmware, Kernel, Key, Refstate};
use crate::evidence::eventlog::{
    Event, EventLog, EventType, Explained, Guid, LogHash, Signature, Variable, describe,
};
use crate::policy::measured_boot::MeasuredBootFailure;

type Checked<T = ()> = Result<T, String>;

/// How many events of a platform's configuration are taken: as many as edk2 measures.
const MAX_CONFIG_FLAGS: u32 = 4;

/// What the firmware may say it does, by PCR.
const ACTIONS: [(u32, &[&str]); 3] = [
    (1, &["Entering ROM Based Setup"]),
    (
        4,
        &[
            "Calling EFI Application from Boot Option",
            "Returning from EFI Application from Boot Option",
        ],
    ),
    (
        5,
        &[
            "Exit Boot Services Invocation",
            "Exit Boot Services Returned with Failure",
            "Exit Boot Services Returned with Success",
        ],
    ),
];

pub(super) fn judge(
    refstate: &Refstate,
    log: &EventLog<'_>,
    bank: HashAlg,
) -> Result<(), MeasuredBootFailure> {
    if bank != HashAlg::Sha256 {
        return Err(MeasuredBootFailure::Bank { quoted: bank });
    }
    let mut judge = Judge {
        refstate,
        seen: Vec::new(),
        versions: Vec::new(),
        blobs: Vec::new(),
        images: Vec::new(),
        kernels: Vec::new(),
        initrds: Vec::new(),
        command_lines: Vec::new(),
    };
    for event in log.events() {
        judge
            .event(&event)
            .map_err(|why| MeasuredBootFailure::Reference {
                event: event.number,
                described: describe(&event, bank),
                why,
            })?;
    }
    judge.end()
}

/// Things of which there may be one, or a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Once {
    Kind(u32, EventType),
    Config(&'static str),
    Authority(&'static str),
    MokListTrusted,
}

struct Judge<'a> {
    refstate: &'a Refstate,
    seen: Vec<Once>,
    versions: Vec<Event<'a>>,
    blobs: Vec<Event<'a>>,
    images: Vec<Event<'a>>,
    kernels: Vec<Event<'a>>,
    initrds: Vec<Event<'a>>,
    command_lines: Vec<String>,
}

impl<'a> Judge<'a> {
    fn event(&mut self, event: &Event<'a>) -> Checked {
        let kind = event.kind;
        let place = Once::Kind(event.pcr, kind);
        match (event.pcr, kind.name().unwrap_or_default()) {
            (0, "EV_NO_ACTION")
            | (1, "EV_CPU_MICROCODE" | "EV_EFI_HANDOFF_TABLES" | "EV_EFI_HANDOFF_TABLES2")
            | (5, "EV_EFI_GPT_EVENT") => self.once(place, 1),
            (1, "EV_PLATFORM_CONFIG_FLAGS") => self.once(place, MAX_CONFIG_FLAGS),
            (0, "EV_S_CRTM_VERSION") => keep(&mut self.versions, event),
            (0, "EV_EFI_PLATFORM_FIRMWARE_BLOB" | "EV_EFI_PLATFORM_FIRMWARE_BLOB2") => {
                keep(&mut self.blobs, event)
            }
            (4, "EV_EFI_BOOT_SERVICES_APPLICATION") => keep(&mut self.images, event),
            (2, "EV_EFI_BOOT_SERVICES_DRIVER") => Ok(()),
            (1, "EV_EFI_VARIABLE_BOOT") => boot_option(event),
            (1 | 4 | 5, "EV_EFI_ACTION") => action(event),
            (0..=7, "EV_SEPARATOR") => separator(event),
            (7, "EV_EFI_VARIABLE_DRIVER_CONFIG") => self.config(event),
            (7, "EV_EFI_VARIABLE_AUTHORITY") => self.authority(event),
            (8, "EV_IPL") => self.command(event),
            (9, "EV_IPL") => self.file(event),
            (14, "EV_IPL") => self.mok(event),
            _ => Err("the example policy has no place for it".to_owned()),
        }
    }

    fn once(&mut self, what: Once, limit: u32) -> Checked {
        let before = self.seen.iter().filter(|seen| **seen == what).count();
        self.seen.push(what);
        match u32::try_from(before) {
            Ok(before) if before < limit => Ok(()),
            _ => Err(format!("the example policy takes {limit} of these")),
        }
    }

    /// A variable of the firmware: `SecureBoot` and the databases.
    fn config(&mut self, event: &Event<'a>) -> Checked {
        let variable = variable(event)?;
        let refstate = self.refstate;
        let off = !refstate.secure_boot;
        let (name, keys) = if variable.is(Guid::GLOBAL, "SecureBoot") {
            return secure_boot(&variable, refstate.secure_boot);
        } else if variable.is(Guid::GLOBAL, "PK") {
            ("pk", &refstate.pk)
        } else if variable.is(Guid::GLOBAL, "KEK") {
            ("kek", &refstate.kek)
        } else if variable.is(Guid::SECURITY_DATABASE, "db") {
            ("db", &refstate.db)
        } else if variable.is(Guid::SECURITY_DATABASE, "dbx") {
            ("dbx", &refstate.dbx)
        } else if variable.is(Guid::SECURITY_DATABASE, "vendor_db") {
            ("vendor_db", &refstate.vendor_db)
        } else {
            return Err("the example policy doesn't know the variable".to_owned());
        };
        self.once(Once::Config(name), 1)?;
        match name {
            _ if off && keys.is_empty() => Ok(()),
            "dbx" => superset(&variable, keys),
            "pk" | "kek" => subset(&variable, keys, &[Guid::X509]),
            _ => subset(&variable, keys, &[Guid::X509, Guid::SHA256]),
        }
    }

    /// Why an image was allowed to run.
    fn authority(&mut self, event: &Event<'a>) -> Checked {
        let variable = variable(event)?;
        let database = Guid::SECURITY_DATABASE;
        if variable.is(database, "vendor_db") {
            self.once(Once::Authority("vendor_db"), 1)?;
            let keys = &self.refstate.vendor_db;
            if !self.refstate.secure_boot && keys.is_empty() {
                return Ok(());
            }
            let (owner, data) = variable.content.split_first_chunk().ok_or(NO_SIGNATURE)?;
            let owner = Guid(*owner);
            let signature = Signature {
                kind: Guid::X509,
                owner,
                data,
            };
            return listed(&signature, keys);
        }
        if variable.is(Guid::SHIM, "MokListTrusted") {
            self.once(Once::Authority("MokListTrusted"), 1)?;
            return match variable.content {
                [0 | 1] => Ok(()),
                _ => Err("the example policy wants 0 or 1 in it".to_owned()),
            };
        }
        let name = if variable.is(database, "db") {
            "db"
        } else if variable.is(Guid::SHIM, "SbatLevel") {
            "SbatLevel"
        } else if variable.is(Guid::SHIM, "Shim") {
            "Shim"
        } else if variable.is(Guid::SHIM, "MokListRT") {
            "MokListRT"
        } else {
            return Err("the example policy doesn't know the authority".to_owned());
        };
        self.once(Once::Authority(name), 1)
    }

    /// A command of GRUB, or the kernel's command line.
    fn command(&mut self, event: &Event<'a>) -> Checked {
        let label = label(event);
        if label.starts_with("grub_cmd: ") {
            return Ok(());
        }
        if !label.starts_with("kernel_cmdline: ") {
            return Err("the example policy wants grub_cmd: or kernel_cmdline: before it".into());
        }
        let Some(Explained::Text(text)) = event.explained(LogHash::Sha256) else {
            return Err("the log doesn't have the command line that was measured".to_owned());
        };
        self.command_lines.push(text.text().into_owned());
        Ok(())
    }

    /// A file that GRUB read, by the name in the log.
    fn file(&mut self, event: &Event<'a>) -> Checked {
        let name = label(event);
        // Python's `.` is no line's end.
        let has = |part: &str| name.contains(part) && !name.contains('\n');
        if has("/loader/entries") || has("/grub") {
            Ok(())
        } else if has("/vmlinuz") {
            keep(&mut self.kernels, event)
        } else if has("/initrd") || has("/initramfs") {
            keep(&mut self.initrds, event)
        } else {
            Err("the example policy takes files of grub, vmlinuz, initrd and initramfs".to_owned())
        }
    }

    /// Shim's lists of keys.
    fn mok(&mut self, event: &Event<'a>) -> Checked {
        let has = |lists: &[Digests]| lists.iter().any(|digests| holds(event, digests));
        match label(event).as_str() {
            "MokList" if has(&self.refstate.mok) => Ok(()),
            "MokList" => Err("its digest is not in mokdig".to_owned()),
            "MokListX" if has(&self.refstate.mok_excluded) => Ok(()),
            "MokListX" => Err("its digest is not in mokxdig".to_owned()),
            "MokListTrusted" => self.once(Once::MokListTrusted, 1),
            _ => Err("the example policy doesn't know the list".to_owned()),
        }
    }

    /// What was collected has to be one of the listed kernels, and one of the listed firmwares.
    fn end(&self) -> Result<(), MeasuredBootFailure> {
        let kernels = self.refstate.kernels.iter();
        one_of("kernels", kernels.map(|kernel| self.is_kernel(kernel)))?;
        let firmwares = self.refstate.firmwares.iter();
        one_of(
            "scrtm_and_bios",
            firmwares.map(|firmware| self.is_firmware(firmware)),
        )
    }

    fn is_kernel(&self, kernel: &Kernel) -> Checked {
        let mut images = vec![
            ("shim_authcode_sha256", &kernel.shim),
            ("grub_authcode_sha256", &kernel.grub),
        ];
        if self.refstate.secure_boot {
            images.push(("kernel_authcode_sha256", &kernel.kernel));
            // Some kernels are measured twice.
            if self.images.len() > images.len() {
                images.push(("kernel_authcode_sha256", &kernel.kernel));
            }
        }
        same("images", &self.images, &images)?;
        same(
            "initramfs",
            &self.initrds,
            &[("initrd_plain_sha256", &kernel.initrd)],
        )?;
        let file = [("vmlinuz_plain_sha256", &kernel.kernel)];
        match self.kernels.as_slice() {
            [_] if self.refstate.secure_boot => {}
            kernels => same("kernel files", kernels, &file)?,
        }
        match self.command_lines.as_slice() {
            [one] if kernel.command_line.is_match(one) => Ok(()),
            [one] => Err(format!("{one:?} does not match kernel_cmdline")),
            several => Err(format!("{} command lines instead of one", several.len())),
        }
    }

    fn is_firmware(&self, firmware: &Firmware) -> Checked {
        match self.versions.as_slice() {
            [one] if holds(one, &firmware.version) => {}
            [one] => return Err(format!("{one:?} is not scrtm")),
            several => return Err(format!("{} versions instead of one", several.len())),
        }
        let (have, want) = (self.blobs.len(), firmware.blobs.len());
        if have != want {
            return Err(format!(
                "{have} parts of platform_firmware instead of {want}"
            ));
        }
        let mut parts = self.blobs.iter().zip(&firmware.blobs);
        match parts.find(|(blob, digests)| !holds(blob, digests)) {
            Some((blob, _)) => Err(format!("{blob:?} is not in platform_firmware")),
            None => Ok(()),
        }
    }
}

const NO_SIGNATURE: &str = "there is no signature in it";

/// Keeps an event for the end. It is bounded by the log.
fn keep<'a>(events: &mut Vec<Event<'a>>, event: &Event<'a>) -> Checked {
    events.push(*event);
    Ok(())
}

/// Passes if one does; otherwise says of each why not.
fn one_of(
    list: &'static str,
    tried: impl Iterator<Item = Checked>,
) -> Result<(), MeasuredBootFailure> {
    let mut reasons = Vec::new();
    for result in tried {
        match result {
            Ok(()) => return Ok(()),
            Err(why) => reasons.push(why),
        }
    }
    let why = if reasons.is_empty() {
        "it lists none, so nothing passes".to_owned()
    } else {
        reasons.join("; ")
    };
    Err(MeasuredBootFailure::ReferenceList { list, why })
}

fn same(what: &str, events: &[Event<'_>], wanted: &[(&str, &Digest)]) -> Checked {
    if events.len() != wanted.len() {
        let (have, want) = (events.len(), wanted.len());
        return Err(format!("{have} {what} instead of {want}"));
    }
    let mut pairs = events.iter().zip(wanted);
    let differs =
        pairs.find(|(event, (_, digest))| event.digest(LogHash::Sha256) != Some(digest.as_slice()));
    match differs {
        Some((event, (name, _))) => Err(format!("{event:?} is not {name}")),
        None => Ok(()),
    }
}

/// Whether the digest of the quoted bank is the listed one.
fn holds(event: &Event<'_>, digests: &Digests) -> bool {
    let listed = digests.iter().find(|(hash, _)| *hash == LogHash::Sha256);
    listed.is_some_and(|(hash, digest)| event.digest(*hash) == Some(digest.as_slice()))
}

fn variable<'a>(event: &Event<'a>) -> Checked<Variable<'a>> {
    match event.explained(LogHash::Sha256) {
        Some(Explained::Variable(variable)) => Ok(variable),
        _ => Err("the log doesn't have the variable that was measured".to_owned()),
    }
}

fn secure_boot(variable: &Variable<'_>, wanted: bool) -> Checked {
    if variable.content == [u8::from(wanted)] {
        return Ok(());
    }
    let wanted = if wanted { "on" } else { "off" };
    Err(format!("has_secureboot wants Secure Boot {wanted}"))
}

/// Boot options: any content, which alone is measured.
fn boot_option(event: &Event<'_>) -> Checked {
    let known = Variable::parse(event.data).is_some_and(|variable| {
        let name = variable.name();
        let number = name.strip_prefix("Boot").unwrap_or_default();
        let option = !number.is_empty() && number.bytes().all(|letter| letter.is_ascii_hexdigit());
        variable.owner == Guid::GLOBAL && (name == "BootOrder" || option)
    });
    if known {
        return Ok(());
    }
    Err("the example policy takes BootOrder and boot options only".to_owned())
}

fn action(event: &Event<'_>) -> Checked {
    let allowed = ACTIONS.iter().find(|(pcr, _)| *pcr == event.pcr);
    let said = allowed.is_some_and(|(_, texts)| {
        let Some(Explained::Text(measured)) = event.explained(LogHash::Sha256) else {
            return false;
        };
        texts.contains(&measured.text().as_ref())
    });
    if said {
        return Ok(());
    }
    Err("the example policy doesn't know the action".to_owned())
}

fn separator(event: &Event<'_>) -> Checked {
    if event.is_separator(LogHash::Sha256) {
        return Ok(());
    }
    Err("its digest is not that of a separator: the firmware reported an error".to_owned())
}

/// What the log calls what was measured.
fn label(event: &Event<'_>) -> String {
    let text = event.data.strip_suffix(&[0]).unwrap_or(event.data);
    String::from_utf8_lossy(text).into_owned()
}

fn signatures<'a>(variable: &Variable<'a>) -> Checked<Vec<Signature<'a>>> {
    let signatures = variable.signatures().collect::<Result<_, _>>();
    signatures.map_err(|_| "its content is no list of signatures".to_owned())
}

fn listed(signature: &Signature<'_>, keys: &[Key]) -> Checked {
    if keys.iter().any(|key| key.is(signature)) {
        return Ok(());
    }
    Err(format!(
        "a signature of the owner {} is not in the reference state",
        signature.owner
    ))
}

fn subset(variable: &Variable<'_>, keys: &[Key], kinds: &[Guid]) -> Checked {
    for signature in signatures(variable)? {
        if !kinds.contains(&signature.kind) {
            return Err(format!("it has signatures of the kind {}", signature.kind));
        }
        listed(&signature, keys)?;
    }
    Ok(())
}

/// Keylime wants one list of SHA-256 digests with all of these in it.
fn superset(variable: &Variable<'_>, keys: &[Key]) -> Checked {
    let have = signatures(variable)?;
    if have.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(other) = have.iter().find(|signature| signature.kind != Guid::SHA256) {
        return Err(format!("it has signatures of the kind {}", other.kind));
    }
    let missing = keys
        .iter()
        .filter(|key| !have.iter().any(|signature| key.is(signature)));
    match missing.count() {
        0 => Ok(()),
        count => Err(format!(
            "{count} of the dbx of the reference state are not in it"
        )),
    }
}
