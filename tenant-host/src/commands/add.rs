//! `add` and `update`: from the node's record to the outcome of its payload.
//!
//! The endorsement key is judged before anything is sealed, and the agent's first quote before anything is sent. What can go
//! on side by side does: sealing, the agent's answers, the verifier's.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use verifier_host::link::{Endpoint, Limits};
use verifier_host::pki::{Credentials, ServerTrust, client_config};
use verifier_host::policy::tpm::TpmPolicy;
use verifier_host::transport::TransportKey;
use zeroize::Zeroizing;

use super::agree;
use super::deliver::{self, Course};
use super::payload::{self, Load};
use super::{Context, resolve};
use crate::cli::{Arguments, PayloadSource, Settings, UsageError};
use crate::client::{Agent, AgentInfo, Enrolment, IdentityQuote, RegistrarRecord};
use crate::delivery::{Plan, VerifierView, state_name};
use crate::error::Failure;
use crate::report::{Output, Report};
use crate::trust::known;

/// Delivers to a node; with `replace`, to one that the verifier may have already.
pub(super) async fn add(context: &mut Context<'_>, replace: bool) -> Result<Report, Failure> {
    let start = Instant::now();
    let (arguments, settings) = (context.arguments, context.settings);
    let source = arguments.payload_source(settings.keylime_dir.join("ca"))?;
    let expected_ek = arguments.expected_ek()?;
    let policy = Policy::parse(arguments.tpm_policy.as_deref().unwrap_or("{}"))?;
    let version = arguments
        .supported_version
        .as_deref()
        .map(parse_version)
        .transpose()?;

    let (uuid, record) = context.registered().await?;
    let keys = agree::check_keys(&uuid, &record, settings, expected_ek)?;
    let nonce = agree::random_text()?;
    let place = Place::find(arguments, &uuid, &record).await?;
    let (greeting, load, view) = tokio::try_join!(
        Greeting::exchange(
            &place,
            &uuid,
            &context.credentials,
            context.limits,
            version,
            &nonce
        ),
        seal_aside(&source, &uuid, settings),
        async { context.verifier.view(&uuid).await.map_err(Failure::from) },
    )?;
    refuse_existing(&uuid, view.as_ref(), replace)?;
    let Greeting {
        agent,
        info,
        identity,
    } = greeting;
    agree::check_identity(&keys.ak, &identity, &nonce, settings).map_err(|reason| {
        Failure::Identity {
            agent: agent.endpoint().to_string(),
            uuid: uuid.to_string(),
            reason,
        }
    })?;
    let transport = TransportKey::from_pem(&identity.pubkey)?;
    known::check_or_record(&settings.known_eks, &uuid, &keys.ek_hash)?;
    say_first(
        context.output,
        &agree::describe(&uuid, &keys, settings),
        &policy,
        &load,
    );
    if let Some(sealed) = &load.sealed {
        let warning = payload::check_size(sealed, &info, settings.max_payload_size)?;
        warning
            .iter()
            .for_each(|warning| context.output.say(warning));
    }
    let ak_text = BASE64.encode(keys.ak.marshalled());
    let course = Course {
        start,
        uuid: &uuid,
        plan: Plan {
            payload: load.sealed.is_some(),
            replace: replace && view.is_some(),
            verify: arguments.verify,
            limit: settings.timeout,
        },
        sealed: load.sealed.as_ref(),
        transport: &transport,
        enrolment: enrolment(
            settings,
            &place,
            &record,
            &load,
            &policy,
            &ak_text,
            agent.version(),
        ),
    };
    let mut report = deliver::deliver(course, agent, &mut context.verifier, context.output).await?;
    if let Some(document) = report.json.as_object_mut() {
        document.insert(
            "command".to_owned(),
            json!(if replace { "update" } else { "add" }),
        );
        document.insert("ek".to_owned(), agree::as_json(&keys));
    }
    Ok(report)
}

/// The policy as it goes to the verifier.
struct Policy {
    text: String,
    is_empty: bool,
}

impl Policy {
    /// Checks the policy and writes it with its mask, each value in a list, as Keylime's verifier wants it.
    fn parse(text: &str) -> Result<Self, Failure> {
        let policy = TpmPolicy::parse(text)?;
        // Parsed and checked above; what isn't an object got no further.
        let given: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let mut written = Map::new();
        for (name, value) in given.into_iter().filter(|(name, _)| name != "mask") {
            let values = match value {
                Value::Array(values) => values,
                single => vec![single],
            };
            let lower = values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_ascii_lowercase);
            written.insert(name, lower.collect());
        }
        written.insert(
            "mask".to_owned(),
            json!(format!("{:#x}", policy.mask().bits())),
        );
        Ok(Self {
            text: Value::Object(written).to_string(),
            is_empty: policy.is_empty(),
        })
    }
}

/// Where the agent is: for this tenant, and for the verifier.
struct Place {
    agent: Endpoint,
    for_verifier: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Place {
    async fn find(
        arguments: &Arguments,
        uuid: &Uuid,
        record: &RegistrarRecord,
    ) -> Result<Self, Failure> {
        let unusable = |reason: &str| Failure::Identity {
            agent: record
                .ip
                .clone()
                .unwrap_or_else(|| "an unknown address".to_owned()),
            uuid: uuid.to_string(),
            reason: reason.to_owned(),
        };
        let host = arguments.targethost.clone().or_else(|| record.ip.clone());
        let host =
            host.ok_or_else(|| unusable("it registered without an address: -t gives one"))?;
        let port = arguments.targetport.or(record.port);
        let port = port.ok_or_else(|| unusable("it registered without a port: -tp gives one"))?;
        let certificate = record.tls_certificate().ok_or_else(|| {
            unusable("it registered without a TLS certificate; agents are talked to over mutual TLS alone")
        })?;
        let first = |addresses: Vec<IpAddr>| addresses.first().map(IpAddr::to_string);
        let address = first(resolve(&host).await?).unwrap_or(host);
        let for_verifier = match &arguments.cv_targethost {
            Some(other) => first(resolve(other).await?).unwrap_or_else(|| other.clone()),
            None => address.clone(),
        };
        Ok(Self {
            agent: Endpoint {
                host: address,
                port,
            },
            for_verifier,
            certificate,
        })
    }
}

/// What the agent answers before it is given anything.
struct Greeting {
    agent: Agent,
    info: AgentInfo,
    identity: IdentityQuote,
}

impl Greeting {
    async fn exchange(
        place: &Place,
        uuid: &Uuid,
        credentials: &Credentials,
        limits: Limits,
        version: Option<ApiVersion>,
        nonce: &str,
    ) -> Result<Self, Failure> {
        let trust = ServerTrust::Pinned(place.certificate.clone());
        let tls = client_config(&trust, Some(credentials)).map_err(|error| Failure::Identity {
            agent: place.agent.to_string(),
            uuid: uuid.to_string(),
            reason: format!("the TLS certificate that it registered can't be used: {error}"),
        })?;
        let mut agent = Agent::connect(place.agent.clone(), tls, limits, version).await?;
        let info = if agent.version() >= ApiVersion::WITH_INFO {
            agent.info().await?
        } else {
            AgentInfo::default()
        };
        let identity = agent.identity(nonce).await?;
        Ok(Self {
            agent,
            info,
            identity,
        })
    }
}

/// Makes the payload on a thread of its own, while the agent is asked.
async fn seal_aside(
    source: &PayloadSource,
    uuid: &Uuid,
    settings: &Arc<Settings>,
) -> Result<Load, Failure> {
    let (source, uuid, settings) = (source.clone(), uuid.clone(), Arc::clone(settings));
    let task = tokio::task::spawn_blocking(move || payload::prepare(&source, &uuid, &settings));
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

fn say_first(output: &Output, about_ek: &[String], policy: &Policy, load: &Load) {
    about_ek.iter().for_each(|line| output.say(line));
    if policy.is_empty {
        output.say("warning: there is no --tpm_policy, so every boot of this node passes");
    }
    if let Some(directory) = load.new_ca.as_deref().map(Path::display) {
        output.say(&format!(
            "made a certificate authority in {directory}; keep its ca-private.pem to yourself"
        ));
    }
}

fn enrolment<'a>(
    settings: &'a Settings,
    place: &'a Place,
    record: &'a RegistrarRecord,
    load: &'a Load,
    policy: &Policy,
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
        tpm_policy: policy.text.clone(),
        runtime_policy: "",
        runtime_policy_name: "",
        runtime_policy_key: "",
        mb_policy: None,
        mb_policy_name: "",
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

fn parse_version(text: &str) -> Result<ApiVersion, UsageError> {
    ApiVersion::parse(text).ok_or_else(|| UsageError::BadVersion {
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn a_policy_gets_its_mask() {
        let digest = "AB".repeat(32);
        let lower = digest.to_lowercase();
        let rows = [
            ("none", "{}".to_owned(), json!({"mask": "0x0"})),
            (
                "text",
                format!("{{\"23\": \"{digest}\"}}"),
                json!({"23": [lower], "mask": "0x800000"}),
            ),
            (
                "list",
                format!("{{\"0\": [\"{digest}\"], \"7\": [\"{digest}\"]}}"),
                json!({"0": [lower], "7": [lower], "mask": "0x81"}),
            ),
            (
                "wider mask",
                format!("{{\"0\": \"{digest}\", \"mask\": \"0x2\"}}"),
                json!({"0": [lower], "mask": "0x3"}),
            ),
        ];
        for (name, text, wanted) in rows {
            let policy = Policy::parse(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(&policy.text).unwrap(),
                wanted,
                "{name}"
            );
            assert_eq!(policy.is_empty, name == "none", "{name}");
        }
        assert!(Policy::parse("{\"16\": \"00\"}").is_err());
        assert!(Policy::parse("[]").is_err());
    }
}
