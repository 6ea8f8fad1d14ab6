//! `add` and `update`: from the node's record to the outcome of its payload.
//!
//! The endorsement key is judged before anything is sealed, and the agent's first quote before anything is sent. What can go
//! on side by side does: sealing, the agent's answers, the verifier's.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use verifier_host::transport::TransportKey;
use zeroize::Zeroizing;

use super::Context;
use super::agree::{self, NodeKeys};
use super::deliver::{self, Course};
use super::demands::Demands;
use super::greet::{Greeting, Place};
use super::logs::{self, Beginning};
use super::payload::{self, Load};
use crate::cli::{Arguments, PayloadSource, Settings};
use crate::client::{Enrolment, RegistrarRecord};
use crate::delivery::{Plan, VerifierView, state_name};
use crate::error::Failure;
use crate::report::Report;
use crate::trust::known;

/// What the command line asks for, checked before anybody is talked to.
struct Wish {
    source: PayloadSource,
    expected_ek: Option<String>,
    version: Option<ApiVersion>,
}

impl Wish {
    fn read(arguments: &Arguments, settings: &Settings) -> Result<Self, Failure> {
        Ok(Self {
            source: arguments.payload_source(settings.keylime_dir.join("ca"))?,
            expected_ek: arguments.expected_ek()?,
            version: arguments.version()?,
        })
    }
}

/// Delivers to a node; with `replace`, to one that the verifier may have already. One whose last payload failed stays under
/// attestation, since it had its key; it is delivered to anew without being asked for.
pub(super) async fn add(context: &mut Context<'_>, replace: bool) -> Result<Report, Failure> {
    let start = Instant::now();
    let (arguments, settings) = (context.arguments, context.settings);
    let wish = Wish::read(arguments, settings)?;
    let group = arguments.revocation.group()?;
    let demands = Demands::read(arguments, settings, context.limits).await?;
    let (uuid, record) = context.registered().await?;
    let keys = agree::check_keys(&uuid, &record, settings, wish.expected_ek.clone())?;
    demands.check_at(&mut context.verifier, &uuid).await?;
    let nonce = agree::random_text()?;
    let place = Place::find(arguments, &uuid, &record).await?;
    let (mut greeting, (load, view)) = tokio::try_join!(
        Greeting::exchange(
            &place,
            &uuid,
            &context.credentials,
            context.limits,
            wish.version,
            &nonce
        ),
        async {
            let verifier = &mut context.verifier;
            let view = verifier.view(&uuid).await?;
            let source = &wish.source;
            let beginning = logs::begin(verifier, source, group, arguments, settings).await?;
            let load = seal_aside(source, &uuid, group, beginning, settings).await?;
            Ok::<_, Failure>((load, view))
        },
    )?;
    let replaces = view.is_some() && (replace || greeting.agent.last_payload_failed().await?);
    refuse_existing(&uuid, view.as_ref(), replaces)?;
    let transport = accept(context, &uuid, &keys, &greeting, &nonce)?;
    say_first(context, &uuid, &keys, &demands, &load);
    check_size(context, &load, &greeting)?;
    let ak_text = BASE64.encode(keys.ak.marshalled());
    let version = greeting.agent.version();
    let course = Course {
        start,
        uuid: &uuid,
        plan: Plan {
            payload: load.sealed.is_some(),
            replace: replaces,
            verify: arguments.verify,
            limit: settings.timeout,
        },
        sealed: load.sealed.as_ref(),
        transport: &transport,
        enrolment: enrolment(
            settings, &place, &record, &load, &demands, &ak_text, version,
        ),
    };
    let (verifier, output) = (&mut context.verifier, context.output);
    let mut report = deliver::deliver(course, greeting.agent, verifier, output).await?;
    let more = [
        ("command", json!(if replace { "update" } else { "add" })),
        ("ek", agree::as_json(&keys)),
        ("policies", demands.as_json()),
    ];
    if let Some(document) = report.json.as_object_mut() {
        document.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(report)
}

/// Takes the agent for the node's, or doesn't: its first quote must be by the registered AK. Its EK counts as known from then on.
fn accept(
    context: &Context<'_>,
    uuid: &Uuid,
    keys: &NodeKeys,
    greeting: &Greeting,
    nonce: &str,
) -> Result<TransportKey, Failure> {
    let identity = &greeting.identity;
    agree::check_identity(&keys.ak, identity, nonce, context.settings).map_err(|reason| {
        Failure::Identity {
            agent: greeting.agent.endpoint().to_string(),
            uuid: uuid.to_string(),
            reason,
        }
    })?;
    let transport = TransportKey::from_pem(&identity.pubkey)?;
    known::check_or_record(&context.settings.known_eks, uuid, &keys.ek_hash)?;
    Ok(transport)
}

fn check_size(context: &Context<'_>, load: &Load, greeting: &Greeting) -> Result<(), Failure> {
    let Some(sealed) = &load.sealed else {
        return Ok(());
    };
    let warning = payload::check_size(sealed, &greeting.info, context.settings.max_payload_size)?;
    warning
        .iter()
        .for_each(|warning| context.output.say(warning));
    Ok(())
}

/// Makes the payload on a thread of its own, while the agent is asked.
async fn seal_aside(
    source: &PayloadSource,
    uuid: &Uuid,
    group: Option<&str>,
    beginning: Option<Beginning>,
    settings: &Arc<Settings>,
) -> Result<Load, Failure> {
    let (source, uuid, settings) = (source.clone(), uuid.clone(), Arc::clone(settings));
    let group = group.map(str::to_owned);
    let task = tokio::task::spawn_blocking(move || {
        payload::prepare(&source, &uuid, group.as_deref(), beginning, &settings)
    });
    task.await.map_err(|_| Failure::Interrupted)?
}

fn refuse_existing(uuid: &Uuid, view: Option<&VerifierView>, replace: bool) -> Result<(), Failure> {
    match view {
        Some(view) if !replace => Err(Failure::Exists {
            uuid: uuid.to_string(),
            state: view
                .operational_state
                .map_or("unknown", state_name)
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

fn say_first(context: &Context<'_>, uuid: &Uuid, keys: &NodeKeys, demands: &Demands, load: &Load) {
    let lines = agree::describe(uuid, keys, context.settings);
    lines.iter().for_each(|line| context.output.say(line));
    let warnings = demands.warnings();
    let warnings = warnings.into_iter();
    let of_load = load.warnings.iter().map(String::as_str);
    warnings
        .chain(of_load)
        .for_each(|warning| context.output.say(warning));
    if let Some(directory) = load.new_ca.as_deref().map(Path::display) {
        let text = format!(
            "made a certificate authority in {directory}; keep its ca-private.pem to yourself"
        );
        context.output.say(&text);
    }
}

fn enrolment<'a>(
    settings: &'a Settings,
    place: &'a Place,
    record: &'a RegistrarRecord,
    load: &'a Load,
    demands: &'a Demands,
    ak_text: &'a str,
    version: ApiVersion,
) -> Enrolment<'a> {
    Enrolment {
        v: load
            .sealed
            .as_ref()
            .map(|sealed| Zeroizing::new(BASE64.encode(sealed.v().as_bytes()))),
        cloudagent_ip: &place.for_verifier,
        cloudagent_port: place.agent.port,
        verifier_ip: &settings.verifier.host,
        verifier_port: settings.verifier.port.to_string(),
        tpm_policy: demands.pcrs.text.clone(),
        runtime_policy: &demands.runtime_text,
        runtime_policy_name: demands.runtime_name(),
        runtime_policy_key: &demands.runtime_key,
        mb_policy: demands.boot_text(),
        mb_policy_name: demands.boot_name(),
        ima_sign_verification_keys: "",
        metadata: load.metadata.clone(),
        revocation_key: &load.revocation_key,
        accept_tpm_hash_algs: &settings.accept_hash,
        accept_tpm_encryption_algs: &settings.accept_encryption,
        accept_tpm_signing_algs: &settings.accept_signing,
        ak_tpm: ak_text,
        mtls_cert: record.mtls_cert.as_deref().unwrap_or_default(),
        supported_version: version.to_string(),
    }
}
