//! `policy explain`: why what a node showed passes policies or doesn't.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use verifier_host::evidence::shown::Shown;
use verifier_host::policy::explain::{By, Finding, explain};
use verifier_host::policy::measured_boot::MeasuredBootPolicy;
use verifier_host::policy::runtime::RuntimePolicy;
use verifier_host::policy::tpm::TpmPolicy;

use crate::cli::{Settings, node_arguments};
use crate::client::{Peer, PolicyAnswer};
use crate::commands::Context;
use crate::error::{Exit, Failure};
use crate::policy::next_boot::merge::Present;
use crate::policy::tool::{self, Target, ToolError};
use crate::policy::{PolicyKind, PolicyName};
use crate::report::{Output, Report};

/// Whose evidence, and by which policies.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct Arguments {
    /// The node whose last failing evidence the verifier keeps, judged by the policies that it has there now.
    #[arg(
        long,
        value_name = "UUID",
        required_unless_present = "evidence",
        conflicts_with = "evidence"
    )]
    pub agent: Option<String>,

    /// Evidence that was saved (--save), judged by its own tpm_policy and by the policies that are given here.
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,

    /// Judge by this tpm_policy instead: JSON, or a file with it.
    #[arg(long, value_name = "FILE|JSON")]
    pub tpm_policy: Option<String>,

    /// Judge by this runtime policy instead: would it let the node pass?
    #[arg(long, value_name = "FILE")]
    pub runtime_policy: Option<PathBuf>,

    /// The key that must have signed it.
    #[arg(long, value_name = "FILE", requires = "runtime_policy")]
    pub runtime_policy_sig_key: Option<PathBuf>,

    /// Judge by this measured-boot policy instead.
    #[arg(long, value_name = "FILE")]
    pub mb_policy: Option<PathBuf>,

    /// Keep the evidence in this file.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Replace that file if it is there.
    #[arg(long, requires = "save")]
    pub force: bool,

    /// Options for reaching the verifier, as `keyhalf-tenant --help` has them: -v, -vp, --tls-dir, ...
    #[arg(last = true, value_name = "OPTION", requires = "agent")]
    pub options: Vec<OsString>,
}

/// Evidence, and the texts of the policies that it is judged by.
struct Case {
    shown: Shown,
    tpm: String,
    runtime: Option<Vec<u8>>,
    measured_boot: Option<Vec<u8>>,
}

pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    let keep = arguments.save.clone().map(|output| Target {
        output: Some(output),
        force: arguments.force,
    });
    keep.as_ref().map(Target::check).transpose()?;
    let mut case = match &arguments.agent {
        Some(uuid) => kept(uuid, arguments, output).await?,
        None => saved(arguments.evidence.as_deref().unwrap_or(Path::new("-")))?,
    };
    case.replace(arguments)?;
    if let Some(target) = keep {
        let text = json!(&case.shown).to_string();
        target.write(&|out| writeln!(out, "{text}"))?;
    }
    case.explain(output)
}

impl Case {
    fn replace(&mut self, arguments: &Arguments) -> Result<(), ToolError> {
        if let Some(text) = &arguments.tpm_policy {
            self.tpm = match Present::of(text) {
                Present::Text(text) => text,
                Present::File(path) => {
                    String::from_utf8_lossy(&tool::read_policy(&path)?).into_owned()
                }
            };
        }
        if let Some(path) = &arguments.runtime_policy {
            let key = arguments.runtime_policy_sig_key.as_deref();
            let key = key.map(tool::read_key).transpose()?;
            let bytes = tool::read_policy(path)?;
            let opened = RuntimePolicy::open(&bytes, key.as_ref());
            let opened = opened.map_err(|source| ToolError::Runtime {
                path: path.clone(),
                source,
            })?;
            self.runtime = Some(opened.into_owned());
        }
        if let Some(path) = &arguments.mb_policy {
            self.measured_boot = Some(tool::read_policy(path)?);
        }
        Ok(())
    }

    fn explain(&self, output: &Output) -> Result<Report, Failure> {
        let refused = |what: &'static str, reason: String| ToolError::Judging { what, reason };
        let tpm = TpmPolicy::parse(&self.tpm)
            .map_err(|error| refused("the tpm_policy", error.to_string()))?;
        let runtime = self
            .runtime
            .as_ref()
            .map(|text| RuntimePolicy::read(text, None));
        let runtime = runtime
            .transpose()
            .map_err(|error| refused("the runtime policy", error.to_string()))?;
        let boot = self
            .measured_boot
            .as_ref()
            .map(|text| MeasuredBootPolicy::read(text));
        let boot = boot
            .transpose()
            .map_err(|error| refused("the measured-boot policy", error.to_string()))?;
        let by = By {
            tpm: &tpm,
            runtime: runtime.as_ref(),
            measured_boot: boot.as_ref(),
        };
        let explained =
            explain(&self.shown, by).map_err(|error| refused("the evidence", error.to_string()))?;
        let lines: Vec<String> = explained.findings.iter().map(line).collect();
        let json = json!({
            "passes": explained.passes,
            "findings": &explained.findings,
            "verifier_said": &self.shown.failure,
        });
        if explained.passes {
            let said = &self.shown.failure;
            let end =
                format!("it passes these policies now; when it failed, the verifier said: {said}");
            let text: Vec<_> = lines.into_iter().chain([end]).collect();
            return Ok(Report::done(text.join("\n"), json));
        }
        output.print(&lines.join("\n"))?;
        let refusals = explained.findings.iter().filter(|finding| !finding.passes);
        Ok(Report {
            exit: Exit::Other,
            text: match refusals.count() {
                1 => "it doesn't pass".to_owned(),
                reasons => format!("it doesn't pass, for {reasons} reasons"),
            },
            json,
        })
    }
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.passes {
        true => "passes",
        false => "refused",
    };
    let allowed = finding.allowed_by.as_ref();
    let allowed = allowed.map_or_else(String::new, |by| format!("\n  would be allowed by: {by}"));
    let (policy, says) = (finding.policy, &finding.says);
    format!("{policy}: {verdict}: {}{allowed}", printable(says))
}

/// Paths come from a node that isn't trusted, and go to a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

fn saved(path: &Path) -> Result<Case, ToolError> {
    let bytes = tool::read_bounded(path, MAX_EVIDENCE_BYTES)?;
    let shown: Shown = serde_json::from_slice(&bytes).map_err(|error| ToolError::Judging {
        what: "the evidence",
        reason: format!(
            "{} is none that `policy explain --save` wrote: {error}",
            path.display()
        ),
    })?;
    Ok(Case {
        tpm: shown.tpm_policy.clone(),
        shown,
        runtime: None,
        measured_boot: None,
    })
}

/// What the verifier keeps of a node, and the policies that the node has there now.
async fn kept(uuid: &str, arguments: &Arguments, output: &Output) -> Result<Case, Failure> {
    let node = node_arguments(uuid, &arguments.options).map_err(ToolError::Options)?;
    let settings = Arc::new(Settings::read(&node)?);
    let mut context = Context::new(&node, &settings, output)?;
    let uuid = context.uuid().await?;
    let verifier = &mut context.verifier;
    let view = verifier.view(&uuid).await?;
    let tpm = view.ok_or_else(|| Failure::Unknown {
        who: Peer::Verifier.name(),
        uuid: uuid.to_string(),
        hint: "`-c cvlist` shows the nodes that it has",
    })?;
    let shown = verifier.shown(&uuid).await?;
    let shown = shown.ok_or_else(|| ToolError::NoEvidence {
        uuid: uuid.to_string(),
    })?;
    let mut policy = async |kind: PolicyKind, name: Option<&String>| {
        let Some(name) = name.and_then(|name| PolicyName::parse(name.clone()).ok()) else {
            return Ok(None);
        };
        match verifier.policy(kind, &name).await? {
            PolicyAnswer::Done(details) => Ok(text_of(&details, kind)),
            _ => Ok::<_, Failure>(None),
        }
    };
    let runtime = policy(PolicyKind::Runtime, shown.runtime_policy.as_ref()).await?;
    let measured_boot = policy(PolicyKind::MeasuredBoot, shown.mb_policy.as_ref()).await?;
    Ok(Case {
        tpm: tpm.tpm_policy.unwrap_or_else(|| shown.tpm_policy.clone()),
        shown,
        runtime,
        measured_boot,
    })
}

fn text_of(details: &Value, kind: PolicyKind) -> Option<Vec<u8>> {
    let field = match kind {
        PolicyKind::Runtime => "runtime_policy",
        PolicyKind::MeasuredBoot => "mb_policy",
    };
    let text = details.get(field)?.as_str()?;
    Some(text.as_bytes().to_vec())
}

/// What the verifier keeps of a list, a boot log and policies, as JSON.
const MAX_EVIDENCE_BYTES: usize = 64 << 20;
