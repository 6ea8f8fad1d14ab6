//! The commands for policies that the verifier keeps under names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use verifier_host::policy::{IMA_PCRS, MEASURED_BOOT_PCRS};

use super::Context;
use super::policy::Policy;
use crate::cli::{PolicyAction, UsageError};
use crate::client::PolicyAnswer;
use crate::delivery::printable;
use crate::error::Failure;
use crate::policy::{PolicyKind, PolicyName, read_measured_boot, sha256};
use crate::report::Report;

/// Does something with a policy of a kind.
pub(super) async fn run(
    context: &mut Context<'_>,
    action: PolicyAction,
    kind: PolicyKind,
) -> Result<Report, Failure> {
    match action {
        PolicyAction::List => list(context, kind).await,
        PolicyAction::Show => show(context, kind).await,
        PolicyAction::Delete => delete(context, kind).await,
        PolicyAction::Add => give(context, kind, false).await,
        PolicyAction::Update => give(context, kind, true).await,
    }
}

async fn list(context: &mut Context<'_>, kind: PolicyKind) -> Result<Report, Failure> {
    let answer = context.verifier.policy_names(kind).await?;
    let names = happened(context, kind, None, answer)?;
    let text = if names.is_empty() {
        format!("no {}", kind.noun())
    } else {
        let lines: Vec<_> = names.iter().map(|name| printable(name)).collect();
        lines.join("\n")
    };
    let command = format!("list{}", kind.word());
    Ok(Report::done(
        text,
        json!({ "command": command, "names": names }),
    ))
}

async fn show(context: &mut Context<'_>, kind: PolicyKind) -> Result<Report, Failure> {
    let name = name(context, kind)?;
    let answer = context.verifier.policy(kind, &name).await?;
    let details = happened(context, kind, Some(&name), answer)?;
    let kept = &details[field(kind)];
    let policy = parsed(kept);
    let sha256 = kept.as_str().map(sha256);
    // The writer of JSON escapes most control characters; those that it leaves mean something to terminals too.
    let mut text = serde_json::to_string_pretty(&policy).unwrap_or_default();
    text.retain(|character| !character.is_control() || character == '\n');
    Ok(Report::done(
        text,
        json!({ "command": format!("show{}", kind.word()), "name": name.as_str(), "sha256": sha256, field(kind): policy }),
    ))
}

async fn delete(context: &mut Context<'_>, kind: PolicyKind) -> Result<Report, Failure> {
    let name = name(context, kind)?;
    let answer = context.verifier.delete_policy(kind, &name).await?;
    happened(context, kind, Some(&name), answer)?;
    Ok(Report::done(
        format!("the verifier has no {} {name} any more", kind.noun()),
        json!({ "command": format!("delete{}", kind.word()), "name": name.as_str(), "deleted": true }),
    ))
}

/// Adds a policy, or replaces one.
async fn give(
    context: &mut Context<'_>,
    kind: PolicyKind,
    replace: bool,
) -> Result<Report, Failure> {
    let name = name(context, kind)?;
    let (body, sha256) = match kind {
        PolicyKind::Runtime => runtime_body(context).await?,
        PolicyKind::MeasuredBoot => measured_boot_body(context)?,
    };
    let verifier = &mut context.verifier;
    let (answer, verb, result) = if replace {
        let answer = verifier.replace_policy(kind, &name, &body).await?;
        (answer, "update", "the verifier has replaced the")
    } else {
        let answer = verifier.add_policy(kind, &name, &body).await?;
        (answer, "add", "the verifier has a new")
    };
    if let PolicyAnswer::Conflict(_) = answer {
        let name = name.to_string();
        return Err(Failure::PolicyExists { kind, name });
    }
    happened(context, kind, Some(&name), answer)?;
    let command = format!("{verb}{}", kind.word());
    Ok(Report::done(
        format!("{result} {} {name}", kind.noun()),
        json!({ "command": command, "name": name.as_str(), "sha256": sha256 }),
    ))
}

/// What `POST` and `PUT` of a runtime policy have, and the policy's SHA-256.
async fn runtime_body(context: &Context<'_>) -> Result<(Value, String), Failure> {
    let arguments = context.arguments;
    let file = arguments.policies.runtime()?.file;
    let file = file.ok_or(UsageError::Needs("the command", "--runtime-policy"))?;
    let pcrs = Policy::parse(arguments.tpm_policy.as_deref().unwrap_or("{}"), IMA_PCRS)?;
    let policy = file.read(context.limits).await?;
    let body = json!({
        "tpm_policy": pcrs.text,
        "runtime_policy": BASE64.encode(&policy.bytes),
        "runtime_policy_key": BASE64.encode(&policy.key_pem),
    });
    Ok((body, sha256(&policy.bytes)))
}

/// What `POST` and `PUT` of a measured-boot policy have, and the policy's SHA-256.
fn measured_boot_body(context: &Context<'_>) -> Result<(Value, String), Failure> {
    let arguments = context.arguments;
    let default = context.settings.mb_policy.as_ref();
    let file = arguments.policies.measured_boot(default)?.file;
    let file = file.ok_or(UsageError::Needs("the command", "--mb-policy"))?;
    let pcrs = arguments.tpm_policy.as_deref().unwrap_or("{}");
    Policy::parse(pcrs, MEASURED_BOOT_PCRS)?;
    let policy = read_measured_boot(&file)?;
    if policy.is_empty {
        context.output.say(EMPTY_MEASURED_BOOT);
    }
    let sha256 = sha256(&policy.text);
    Ok((json!({ "mb_policy": policy.text }), sha256))
}

/// What is said of a measured-boot policy without content.
pub(super) const EMPTY_MEASURED_BOOT: &str =
    "warning: the measured-boot policy is empty, so it accepts every boot log";

/// The name that the command is about.
fn name(context: &Context<'_>, kind: PolicyKind) -> Result<PolicyName, Failure> {
    let policies = &context.arguments.policies;
    let (name, option) = match kind {
        PolicyKind::Runtime => (policies.runtime()?.name, "--runtime-policy-name"),
        PolicyKind::MeasuredBoot => {
            let default = context.settings.mb_policy.as_ref();
            (policies.measured_boot(default)?.name, "--mb-policy-name")
        }
    };
    Ok(name.ok_or(UsageError::Needs("the command", option))?)
}

/// The result of what happened, or the failure of what didn't.
fn happened<T>(
    context: &Context<'_>,
    kind: PolicyKind,
    name: Option<&PolicyName>,
    answer: PolicyAnswer<T>,
) -> Result<T, Failure> {
    let name = name.map(PolicyName::to_string).unwrap_or_default();
    Err(match answer {
        PolicyAnswer::Done(result) => return Ok(result),
        PolicyAnswer::Absent => Failure::NoPolicy { kind, name },
        PolicyAnswer::Conflict(reason) => Failure::PolicyInUse { kind, name, reason },
        PolicyAnswer::NotKept => Failure::PoliciesNotKept {
            kind,
            verifier: context.verifier.endpoint().to_string(),
        },
    })
}

/// The field that has the policy.
const fn field(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Runtime => "runtime_policy",
        PolicyKind::MeasuredBoot => "mb_policy",
    }
}

/// The policy, which the verifier gives as JSON text; what isn't JSON stays text.
fn parsed(value: &Value) -> Value {
    let text = value.as_str();
    let parsed = text.and_then(|text| serde_json::from_str(text).ok());
    parsed.unwrap_or_else(|| value.clone())
}
