//! `policy next-boot`: a policy that allows the boot that an update prepares, beside the present one or in its place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_core::wire::quote::HashAlg;
use agent_core::wire::text::Hex;
use clap::Args;
use serde_json::{Value, json};

use super::create::tpm::Bank;
use crate::cli::{Settings, node_arguments};
use crate::client::Peer;
use crate::commands::Context;
use crate::error::Failure;
use crate::policy::next_boot::events::{Course, Event, Expected};
use crate::policy::next_boot::merge::{Merged, Old, Present, merge};
use crate::policy::next_boot::{Boot, Kind, Prediction, predict};
use crate::policy::tool::{self, Target, ToolError};
use crate::report::{Output, Report};

/// What will be booted, and what is allowed now.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// A kernel that is started by its EFI stub: its image, as it lies on the EFI system partition.
    #[arg(long, value_name = "FILE", conflicts_with = "uki")]
    pub kernel: Option<PathBuf>,

    /// Its initramfs; again for each further one, in the order in which the kernel gets them.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Vec<PathBuf>,

    /// Its command line, exactly: what the boot entry has as load options. systemd-boot puts `initrd=...` of each initramfs before it.
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "uki",
        conflicts_with = "uki"
    )]
    pub cmdline: Option<String>,

    /// A unified kernel image with systemd-stub.
    #[arg(long, value_name = "FILE", required_unless_present = "kernel")]
    pub uki: Option<PathBuf>,

    /// A boot loader that is started before, such as systemd-boot, and hands the initramfs over; again for each further one.
    #[arg(long, value_name = "FILE")]
    pub loader: Vec<PathBuf>,

    /// A phase that systemd in the initramfs measures before the node asks, such as enter-initrd; again for each further one.
    #[arg(long, value_name = "NAME", requires = "uki")]
    pub phase: Vec<String>,

    /// The bank that the node is quoted in.
    #[arg(long, value_enum, default_value_t = Bank::Sha256)]
    pub bank: Bank,

    /// The policy that the node has now: JSON, or a file with it. Its values stay allowed.
    #[arg(long, value_name = "FILE|JSON", group = "present")]
    pub policy: Option<String>,

    /// The node whose policy at the verifier is the present one.
    #[arg(short, long, value_name = "UUID", group = "present")]
    pub uuid: Option<String>,

    /// Allow the next boot alone: of the present policy only PCRs stay that the files say nothing about.
    #[arg(long, requires = "present")]
    pub drop_old: bool,

    /// Leave this PCR out of the policy; again for each further one.
    #[arg(long, value_name = "PCR", value_parser = clap::value_parser!(u8).range(0..24))]
    pub without: Vec<u8>,

    /// Where the policy goes.
    #[command(flatten)]
    pub target: Target,

    /// Options for reaching the verifier, as `keyhalf-tenant --help` has them: -v, -vp, --tls-dir, ...
    #[arg(last = true, value_name = "OPTION", requires = "uuid")]
    pub options: Vec<OsString>,
}

pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    arguments.target.check()?;
    let bank = arguments.bank.into();
    let old = match arguments.drop_old {
        true => Old::Drop,
        false => Old::Keep,
    };
    let prediction = Files::read(arguments)?.predict(arguments, bank)?;
    let present = present(arguments, output).await?;
    let merged = merge(
        present.as_deref(),
        &prediction.pcrs,
        (old, bank),
        &arguments.without,
    )
    .map_err(ToolError::from)?;
    explain(&prediction, &merged, bank, output);
    let json = json!({
        "bank": bank.name(),
        "tpm_policy": &merged.policy,
        "left_out": &merged.left_out,
        "next_boot": prediction.pcrs.iter().map(|expected| as_json(expected, bank)).collect::<Vec<_>>(),
        "notes": &prediction.notes,
    });
    let text = Value::Object(merged.policy).to_string();
    let written = arguments.target.write(&|out| writeln!(out, "{text}"))?;
    Ok(match (written, &arguments.target.output) {
        (None, Some(path)) => Report::done(format!("{} has the policy", path.display()), json),
        _ => Report::done(text, json),
    })
}

/// The files' bytes, for as long as they are looked at.
struct Files {
    image: Vec<u8>,
    initrds: Vec<Vec<u8>>,
    loaders: Vec<Vec<u8>>,
}

impl Files {
    fn read(arguments: &Arguments) -> Result<Self, ToolError> {
        let read = |path: &PathBuf| tool::read_bounded(path, MAX_IMAGE_BYTES);
        let all = |paths: &[PathBuf]| paths.iter().map(read).collect::<Result<_, _>>();
        let image = arguments.kernel.as_ref().or(arguments.uki.as_ref());
        Ok(Self {
            // The parser of arguments wants one of them.
            image: image.map_or_else(|| Ok(Vec::new()), read)?,
            initrds: all(&arguments.initrd)?,
            loaders: all(&arguments.loader)?,
        })
    }

    fn predict(&self, arguments: &Arguments, bank: HashAlg) -> Result<Prediction, ToolError> {
        let boot = Boot {
            loaders: self.loaders.iter().map(Vec::as_slice).collect(),
            kind: match &arguments.cmdline {
                Some(command_line) => Kind::Kernel {
                    image: &self.image,
                    command_line,
                },
                None => Kind::Unified {
                    image: &self.image,
                    phases: &arguments.phase,
                },
            },
            initrds: self.initrds.iter().map(Vec::as_slice).collect(),
        };
        Ok(predict(&boot, bank)?)
    }
}

/// Says, PCR by PCR, what will be measured.
fn explain(prediction: &Prediction, merged: &Merged, bank: HashAlg, output: &Output) {
    for expected in &prediction.pcrs {
        let pcr = expected.pcr;
        for (index, course) in expected.courses.iter().enumerate() {
            let value = course.value(bank);
            let or = if index == 0 { "" } else { "or " };
            output.say(&format!("{or}PCR {pcr} will hold {}:", Hex(&value)));
            if course.events().is_empty() {
                output.say("  nothing is measured to it");
            }
            for event in course.events() {
                output.say(&format!("  {}  {}", Hex(&event.digest), event.what));
            }
        }
    }
    prediction.notes.iter().for_each(|note| output.say(note));
    for pcr in &merged.of_entries {
        output.say(&format!(
            "note: the policy fixes PCR {pcr}, which firmware may measure boot entries to: the update mustn't change the entry"
        ));
    }
    for pcr in &merged.left_out {
        output.say(&format!(
            "note: the present policy says nothing about PCR {pcr}, and the present boot may hold anything there: it is left out until --drop-old"
        ));
    }
}

fn as_json(expected: &Expected, bank: HashAlg) -> Value {
    let event =
        |event: &Event| json!({ "what": event.what, "digest": Hex(&event.digest).to_string() });
    let course = |course: &Course| {
        json!({
            "value": Hex(&course.value(bank)).to_string(),
            "events": course.events().iter().map(event).collect::<Vec<_>>(),
        })
    };
    json!({ "pcr": expected.pcr, "values": expected.courses.iter().map(course).collect::<Vec<_>>() })
}

/// The present policy, from where it was said to be.
async fn present(arguments: &Arguments, output: &Output) -> Result<Option<String>, Failure> {
    let Some(uuid) = &arguments.uuid else {
        let text = arguments
            .policy
            .as_deref()
            .map(|text| match Present::of(text) {
                Present::Text(text) => Ok(text),
                Present::File(path) => read_text(&path),
            });
        return Ok(text.transpose()?);
    };
    let node = node_arguments(uuid, &arguments.options).map_err(ToolError::Options)?;
    let settings = Arc::new(Settings::read(&node)?);
    let mut context = Context::new(&node, &settings, output)?;
    let uuid = context.uuid().await?;
    match context.verifier.view(&uuid).await? {
        Some(view) => Ok(Some(view.tpm_policy.unwrap_or_default())),
        None => Err(Failure::Unknown {
            who: Peer::Verifier.name(),
            uuid: uuid.to_string(),
            hint: "`-c cvlist` shows the nodes that it has",
        }),
    }
}

fn read_text(path: &Path) -> Result<String, ToolError> {
    let bytes = tool::read_policy(path)?;
    String::from_utf8(bytes).map_err(|error| ToolError::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}

/// A unified kernel image with firmware and drivers in it has some 200 MB.
const MAX_IMAGE_BYTES: usize = 1 << 30;
