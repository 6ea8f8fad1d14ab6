//! `status`, `cvstatus`, `regstatus`, `cvlist`, `reglist` and `bulkinfo`: what the servers know, in words and as JSON.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::wire::text::Uuid;
use serde_json::{Value, json};
use verifier_host::evidence::public::{AkPublic, EkPublic};
use verifier_host::policy::tpm::TpmPolicy;

use super::Context;
use super::manage::unknown;
use super::push::status::PayloadStatus;
use super::revocations::Known;
use crate::client::{ClientError, PayloadAnswer, Peer, RegistrarRecord};
use crate::delivery::{VerifierView, printable, state_name};
use crate::deposit::record::Record;
use crate::error::{Exit, Failure};
use crate::policy::PolicyKind;
use crate::report::Report;

/// What both servers know. An error only if neither knows the node.
pub(super) async fn both(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    let (record, details) = tokio::try_join!(
        context.registrar.record(&uuid),
        context.verifier.details(&uuid)
    )
    .map_err(Failure::from)?;
    if record.is_none() && details.is_none() {
        return Err(unknown(Peer::Registrar, &uuid));
    }
    let registered = record
        .as_ref()
        .map_or_else(|| "  registrar: unknown\n".to_owned(), registrar_lines);
    let attested = details
        .as_ref()
        .map_or_else(|| "  verifier:  not added".to_owned(), verifier_lines);
    let payload = payload(context, &uuid, record.as_ref(), details.as_ref()).await?;
    let revocations = match &details {
        Some(details) => {
            let is_refused = view_of(details).is_refused();
            Known::ask(&mut context.verifier, &uuid, is_refused).await?
        }
        None => Known::default(),
    };
    let (exit, more, payload) = match payload {
        Some(status) => (status.exit, status.text, status.json),
        None => (Exit::Done, String::new(), Value::Null),
    };
    Ok(Report {
        exit,
        text: format!("{uuid}\n{registered}{attested}{}{more}", revocations.text),
        json: json!({
            "command": "status", "uuid": uuid.as_str(), "registrar": record, "verifier": details, "payload": payload,
            "revocations": revocations.json,
        }),
    })
}

/// What became of the payload of a node that calls; `None` for one that listens, and from a verifier without such payloads.
async fn payload(
    context: &mut Context<'_>,
    uuid: &Uuid,
    record: Option<&RegistrarRecord>,
    details: Option<&Value>,
) -> Result<Option<PayloadStatus>, Failure> {
    let last: Option<Record> = context.settings.deposits.read(uuid)?;
    let listens = record.is_some_and(|record| record.tls_certificate().is_some());
    if details.is_none() || (listens && last.is_none()) {
        return Ok(None);
    }
    let view = match context.verifier.payload(uuid).await {
        Ok(PayloadAnswer::View(view, _)) => view,
        Ok(PayloadAnswer::Nothing | PayloadAnswer::UnknownNode) => Box::default(),
        Ok(PayloadAnswer::OtherModel) | Err(ClientError::NoPayloads { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(PayloadStatus::of(uuid, &view, last.as_ref(), record)))
}

/// What the verifier knows.
pub(super) async fn verifier(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    let details = context
        .verifier
        .details(&uuid)
        .await?
        .ok_or_else(|| unknown(Peer::Verifier, &uuid))?;
    let text = format!("{uuid}\n{}", verifier_lines(&details));
    Ok(Report::done(
        text,
        json!({ "command": "cvstatus", "uuid": uuid.as_str(), "verifier": details }),
    ))
}

/// What the registrar knows.
pub(super) async fn registrar(context: &mut Context<'_>) -> Result<Report, Failure> {
    let (uuid, record) = context.registered().await?;
    let text = format!("{uuid}\n{}", registrar_lines(&record).trim_end());
    Ok(Report::done(
        text,
        json!({ "command": "regstatus", "uuid": uuid.as_str(), "registrar": record }),
    ))
}

/// The verifier's nodes.
pub(super) async fn verifier_list(context: &mut Context<'_>) -> Result<Report, Failure> {
    let nodes = context
        .verifier
        .list(context.arguments.verifier_id.as_deref())
        .await?;
    Ok(list("cvlist", &nodes))
}

/// The registrar's nodes.
pub(super) async fn registrar_list(context: &mut Context<'_>) -> Result<Report, Failure> {
    let nodes = context.registrar.list().await?;
    Ok(list("reglist", &nodes))
}

fn list(command: &str, nodes: &[String]) -> Report {
    let text = nodes
        .iter()
        .map(|uuid| printable(uuid))
        .collect::<Vec<_>>()
        .join("\n");
    let text = if nodes.is_empty() {
        "no nodes".to_owned()
    } else {
        text
    };
    Report::done(text, json!({ "command": command, "uuids": nodes }))
}

/// What the verifier knows of all its nodes.
pub(super) async fn bulk(context: &mut Context<'_>) -> Result<Report, Failure> {
    let all = context
        .verifier
        .bulk(context.arguments.verifier_id.as_deref())
        .await?;
    let lines = all
        .as_object()
        .into_iter()
        .flatten()
        .map(|(uuid, details)| format!("{}\n{}", printable(uuid), verifier_lines(details)));
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = if text.is_empty() {
        "no nodes".to_owned()
    } else {
        text
    };
    Ok(Report::done(
        text,
        json!({ "command": "bulkinfo", "nodes": all }),
    ))
}

fn registrar_lines(record: &RegistrarRecord) -> String {
    let mut text = String::from("  registrar: ");
    let ip = record
        .ip
        .as_deref()
        .map_or_else(|| "no address".to_owned(), printable);
    let port = record
        .port
        .map_or_else(|| "no port".to_owned(), |port| port.to_string());
    let times = record.regcount.unwrap_or(1);
    let _ = writeln!(
        text,
        "registered {times} time{}, agent at {ip} port {port}",
        if times == 1 { "" } else { "s" }
    );
    let ek = EkPublic::from_base64(&record.ek_tpm).map_or_else(
        |error| format!("not acceptable: {error}"),
        |ek| ek.hash_ek().unwrap_or_else(|| "can't be hashed".to_owned()),
    );
    let certificate = if record
        .ekcert
        .as_deref()
        .is_some_and(|text| !text.is_empty())
    {
        ""
    } else {
        ", no certificate"
    };
    let _ = writeln!(text, "  EK:        {ek}{certificate}");
    let ak = AkPublic::from_base64(&record.aik_tpm).map_or_else(
        |error| format!("not acceptable: {error}"),
        |ak| format!("{} with {}", ak.sign_alg().name(), ak.hash_alg().name()),
    );
    let _ = writeln!(text, "  AK:        {ak}");
    text
}

fn verifier_lines(details: &Value) -> String {
    let view = view_of(details);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    describe(&view, now)
}

/// Fields of another type are shown as missing; the JSON output has them as they are.
fn view_of(details: &Value) -> VerifierView {
    serde_json::from_value(details.clone()).unwrap_or_default()
}

fn describe(view: &VerifierView, now: u64) -> String {
    let state = view.operational_state.map_or("unknown state", state_name);
    let mut text = format!("  verifier:  {state}");
    match view.last_successful_attestation.filter(|time| *time > 0) {
        Some(time) => {
            let passes = view
                .attestation_count
                .map_or_else(String::new, |count| format!(" of {count}"));
            let _ = write!(
                text,
                ", last pass{passes} {} ago",
                age(now.saturating_sub(time))
            );
        }
        None => text.push_str(", has never passed"),
    }
    if view.is_refused() {
        let _ = write!(text, "\n  failed:    {}", view.why_refused());
        if view.is_explained() {
            text.push_str("\n             `keyhalf-tenant policy explain --agent UUID` says what would have allowed it");
        }
    }
    if let Some(unreachable) = &view.unreachable {
        let since = age(now.saturating_sub(unreachable.since));
        let _ = write!(
            text,
            "\n  no answer: for {since}: {}",
            printable(&unreachable.reason)
        );
    }
    let policy = view
        .tpm_policy
        .as_deref()
        .and_then(|policy| TpmPolicy::parse(policy).ok());
    let mut policies = Vec::new();
    if let Some(policy) = policy.as_ref().filter(|policy| !policy.is_empty()) {
        let pcrs: Vec<String> = policy.mask().iter().map(|pcr| pcr.to_string()).collect();
        policies.push(format!("PCR {}", pcrs.join(", ")));
    }
    for (kind, has, name) in [
        (
            PolicyKind::Runtime,
            view.has_runtime_policy,
            &view.runtime_policy_name,
        ),
        (
            PolicyKind::MeasuredBoot,
            view.has_mb_refstate,
            &view.mb_policy_name,
        ),
    ] {
        match (has, name) {
            (None | Some(0), _) => {}
            (_, Some(name)) => policies.push(format!("{} {}", kind.noun(), printable(name))),
            (_, None) => policies.push(kind.noun().to_owned()),
        }
    }
    let _ = match policies.is_empty() {
        false => write!(text, "\n  policy:    {}", policies.join("; ")),
        true if policy.is_some() => {
            write!(text, "\n  policy:    none: every boot of this node passes")
        }
        true => Ok(()),
    };
    text
}

/// A time span in words, rounded down.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{FailureView, UnreachableView};

    #[test]
    fn pass_has_an_age() {
        let digest = "00".repeat(32);
        let view = |state, last, policy: String| VerifierView {
            operational_state: Some(state),
            last_successful_attestation: Some(last),
            attestation_count: Some(4),
            tpm_policy: Some(policy),
            ..VerifierView::default()
        };
        let policy = || format!("{{\"7\": [\"{digest}\"], \"23\": [\"{digest}\"]}}");
        let rows = [
            (
                "passed",
                view(3, 900, policy()),
                "  verifier:  Get Quote, last pass of 4 100 s ago\n  policy:    PCR 7, 23",
            ),
            (
                "never",
                view(3, 0, policy()),
                "  verifier:  Get Quote, has never passed\n  policy:    PCR 7, 23",
            ),
            (
                "no policy",
                view(3, 1000, "{\"mask\": \"0x0\"}".to_owned()),
                "  verifier:  Get Quote, last pass of 4 0 s ago\n  policy:    none: every boot of this node passes",
            ),
            (
                "offline_is_not_failed",
                VerifierView {
                    unreachable: Some(UnreachableView {
                        since: 970,
                        reason: "refused".to_owned(),
                    }),
                    ..view(3, 900, policy())
                },
                "  verifier:  Get Quote, last pass of 4 100 s ago\n  no answer: for 30 s: refused\n  policy:    PCR 7, 23",
            ),
            (
                "failed",
                VerifierView {
                    last_event_id: Some("x.y".to_owned()),
                    tpm_policy: None,
                    ..view(9, 400, policy())
                },
                "  verifier:  Invalid Quote, last pass of 4 10 min ago\n  failed:    event x.y",
            ),
        ];
        let explained = VerifierView {
            has_runtime_policy: Some(1),
            runtime_policy_name: Some("web".to_owned()),
            has_mb_refstate: Some(1),
            failure: Some(FailureView {
                event_id: "ima.validation.tomtou".to_owned(),
                reason: "line 3".to_owned(),
                ..FailureView::default()
            }),
            ..view(9, 0, "{}".to_owned())
        };
        let text = describe(&explained, 1000);
        assert!(text.contains("failed:    line 3\n"), "{text}");
        assert!(text.contains("`keyhalf-tenant policy explain"), "{text}");
        assert!(
            text.ends_with("policy:    runtime policy web; measured-boot policy"),
            "{text}"
        );
        for (name, view, wanted) in rows {
            assert_eq!(describe(&view, 1000), wanted, "{name}");
        }
    }

    #[test]
    fn spans_are_rounded_down() {
        let rows = [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 days"),
        ];
        for (seconds, wanted) in rows {
            assert_eq!(age(seconds), wanted);
        }
    }
}
