//! Rule sets by name: what the usual ways to boot measure, with the digests as what differs.
//!
//! | builtin | PCR 4 | others |
//! | --- | --- | --- |
//! | `uki` | the image, which has kernel, initramfs and command line in it | PCR 12: a command line that the loader gave instead |
//! | `efi_stub` | the kernel | PCR 9: command line and initramfs |
//! | `shim_grub` | shim, GRUB, kernel | PCR 8: commands and command line; PCR 9: files; PCR 14: shim's keys |
//!
//! All judge Secure Boot in PCR 7 if asked to. PCR 11 is left out: systemd extends it after the log's end.

use super::document::{
    BuiltinText, DigestTexts, EfiStubText, ImagesText, MustText, RuleText, ShimGrubText, TextText,
    VariableText,
};
use super::rules::{Rule, Rules};
use super::{MeasuredBootPolicyError, part};

/// What the firmware says in PCR 4 before it starts an application, and after.
///
/// Source: TCG PC Client Platform Firmware Profile 1.06, section 10.4.4.
const ACTIONS: [&str; 2] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
];

const APPLICATION: &str = "EV_EFI_BOOT_SERVICES_APPLICATION";
const TEXT: &str = "EV_IPL";

/// Adds the rules of a builtin.
pub(super) fn expand(
    builtin: BuiltinText,
    rules: &mut Rules,
) -> Result<(), MeasuredBootPolicyError> {
    match builtin {
        BuiltinText::Uki(text) => uki(text, &mut Expansion::new("uki", rules)),
        BuiltinText::EfiStub(text) => efi_stub(text, &mut Expansion::new("efi_stub", rules)),
        BuiltinText::ShimGrub(text) => shim_grub(text, &mut Expansion::new("shim_grub", rules)),
    }
}

fn uki(text: ImagesText, into: &mut Expansion<'_>) -> Result<(), MeasuredBootPolicyError> {
    into.images(text.images, &text.signed_by)?;
    into.secure_boot(text.secure_boot, text.signed_by)?;
    match text.command_line {
        Some(command_line) => {
            into.rule("command line", 12, TEXT, MustText::Text(command_line), 0)?;
        }
        None => into.rules.empty = into.rules.empty.with(12),
    }
    Ok(())
}

fn efi_stub(text: EfiStubText, into: &mut Expansion<'_>) -> Result<(), MeasuredBootPolicyError> {
    const TAG: &str = "EV_EVENT_TAG";
    into.images(text.images, &text.signed_by)?;
    into.secure_boot(text.secure_boot, text.signed_by)?;
    if !text.command_lines.is_empty() {
        let must = MustText::Text(TextText::Equals(text.command_lines));
        into.rule("command line", 9, TAG, must, 1)?;
    }
    if !text.files.is_empty() {
        for kind in [TAG, TEXT] {
            let name = format!("files ({kind})");
            into.rule(&name, 9, kind, MustText::Digest(text.files.clone()), 0)?;
        }
    }
    Ok(())
}

fn shim_grub(text: ShimGrubText, into: &mut Expansion<'_>) -> Result<(), MeasuredBootPolicyError> {
    into.images(text.images, &[])?;
    into.secure_boot(text.secure_boot, Vec::new())?;
    into.rule("commands", 8, TEXT, MustText::Text(text.commands), 1)?;
    into.rule("files", 9, TEXT, MustText::Digest(text.files), 1)?;
    if !text.mok.is_empty() {
        into.rule("mok", 14, TEXT, MustText::Digest(text.mok), 0)?;
    }
    Ok(())
}

/// Where the rules of one builtin go, with its name before theirs.
struct Expansion<'a> {
    name: &'static str,
    rules: &'a mut Rules,
}

impl<'a> Expansion<'a> {
    const fn new(name: &'static str, rules: &'a mut Rules) -> Self {
        Self { name, rules }
    }

    fn rule(
        &mut self,
        name: &str,
        pcr: u8,
        event: &str,
        must: MustText,
        min: u32,
    ) -> Result<(), MeasuredBootPolicyError> {
        let rule = Rule::new(RuleText {
            name: format!("{}: {name}", self.name),
            pcr,
            event: event.to_owned(),
            must,
            min,
            max: None,
        })?;
        self.rules.rules.push(rule);
        Ok(())
    }

    /// PCR 4: nothing runs but these images. Without digests the certificates decide.
    fn images(
        &mut self,
        images: DigestTexts,
        signed_by: &[String],
    ) -> Result<(), MeasuredBootPolicyError> {
        if images.is_empty() {
            if signed_by.is_empty() {
                let why = "it needs images or signed_by, else anything may boot";
                return Err(part(format!("builtin {}", self.name), why));
            }
            return Ok(());
        }
        self.rule("images", 4, APPLICATION, MustText::Digest(images), 1)?;
        let actions = TextText::Equals(ACTIONS.map(str::to_owned).to_vec());
        self.rule("actions", 4, "EV_EFI_ACTION", MustText::Text(actions), 0)?;
        self.rule(
            "end of the firmware",
            4,
            "EV_SEPARATOR",
            MustText::Separator,
            1,
        )
    }

    /// PCR 7. Where certificates decide, nothing but variables and these certificates may be there.
    fn secure_boot(
        &mut self,
        on: Option<bool>,
        signed_by: Vec<String>,
    ) -> Result<(), MeasuredBootPolicyError> {
        const CONFIG: &str = "EV_EFI_VARIABLE_DRIVER_CONFIG";
        let certificates = !signed_by.is_empty();
        let Some(on) = on.or(certificates.then_some(true)) else {
            return Ok(());
        };
        if certificates && !on {
            let why = "signed_by means something with Secure Boot only";
            return Err(part(format!("builtin {}", self.name), why));
        }
        self.rule("secure boot", 7, CONFIG, MustText::SecureBoot(on), 1)?;
        if !certificates {
            self.rules.open = self.rules.open.with(7);
            return Ok(());
        }
        for (name, min) in [
            ("PK", 1),
            ("KEK", 1),
            ("db", 1),
            ("dbx", 1),
            ("dbt", 0),
            ("dbr", 0),
        ] {
            let variable = MustText::Variable(VariableText {
                name: name.to_owned(),
                owner: None,
                sha256: Vec::new(),
            });
            self.rule(name, 7, CONFIG, variable, min)?;
        }
        self.rule(
            "end of the firmware",
            7,
            "EV_SEPARATOR",
            MustText::Separator,
            1,
        )?;
        let must = MustText::SignedBy(signed_by);
        self.rule("signed by", 7, "EV_EFI_VARIABLE_AUTHORITY", must, 1)
    }
}
