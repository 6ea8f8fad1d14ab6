//! The body of `POST /v2.x/agents/{uuid}`, read strictly: what it asks for is done, or it is refused.

use std::collections::BTreeMap;

use agent_core::payload::halves::Half;
use agent_core::wire::route::ApiVersion;
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::policies::{Draft, DraftError, Given};
use crate::policy::{NameError, PolicyKind, PolicyName};
use crate::revocation::anchor::{Group, GroupError};
use crate::revocation::message::{NotifierKey, NotifierKeyError};
use crate::rounds::terms::{Terms, TermsError, TermsText};
use crate::store::nodes::{Notifier, Secrets};

/// Why a node isn't added; always the tenant's to mend, so always HTTP 400.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddError {
    /// Not a JSON object, or a field of another type.
    #[error("the body is not the JSON object expected: {reason}")]
    Json {
        /// What the parser said; it quotes nothing of the body.
        reason: String,
    },
    /// Fields that must be there.
    #[error("the body lacks {}", names.join(", "))]
    Missing {
        /// Which.
        names: Vec<&'static str>,
    },
    /// A runtime or measured-boot policy.
    #[error(transparent)]
    Policy(#[from] DraftError),
    /// A policy's name.
    #[error("{field}: {error}")]
    PolicyName {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        error: NameError,
    },
    /// Keys for file signatures, and no runtime policy that comes with them.
    #[error(
        "ima_sign_verification_keys is set, and no runtime_policy comes with it: keys of file signatures are part of a policy \
         (its verification-keys)"
    )]
    LonelyKeys,
    /// V isn't a key half.
    #[error("v is not the base64 of 16 or 32 bytes")]
    V,
    /// V for a node that nobody can bring it to.
    #[error(
        "mtls_cert is \"disabled\": this node calls by itself and can't be given v; add it with v null and deposit its \
         payload (PUT /v3.0/agents/.../payload), or set enable_agent_mtls in the agent's configuration and let it register again"
    )]
    PushWithV,
    /// A version of the agent API that isn't spoken here.
    #[error(
        "supported_version is none of the agent API that this verifier speaks (2.1 to {})",
        ApiVersion::NEWEST
    )]
    Version,
    /// The key for revocations.
    #[error(transparent)]
    NotifierKey(#[from] NotifierKeyError),
    /// The group of nodes that are told of each other.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Address, policy, key or certificate.
    #[error(transparent)]
    Terms(#[from] TermsError),
}

/// A node to be added.
pub struct Addition {
    /// What the tenant says.
    pub terms: Terms,
    /// What it entrusts.
    pub secrets: Secrets,
    /// Policies that come with it.
    pub given: Vec<Given>,
}

impl Addition {
    /// Reads the body. `verifier` is this verifier's own address, for tenants that leave it out.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn parse(id: &Uuid, body: &[u8], verifier: (&str, u16)) -> Result<Self, AddError> {
        let present: BTreeMap<String, IgnoredAny> =
            serde_json::from_slice(body).map_err(json_error)?;
        let names: Vec<_> = REQUIRED
            .iter()
            .copied()
            .filter(|name| !present.contains_key(*name))
            .collect();
        if !names.is_empty() {
            return Err(AddError::Missing { names });
        }
        let body: Body = serde_json::from_slice(body).map_err(json_error)?;
        let (runtime, measured_boot) = (body.runtime(id)?, body.measured_boot(id)?);
        let metadata = body.metadata.unwrap_or_else(|| "{}".to_owned());
        let group = Group::of_metadata(&metadata)?;
        let pem = body.revocation_key.filter(|pem| !pem.is_empty());
        let notifier = |pem: Zeroizing<String>| {
            let anchor = NotifierKey::from_pem(&pem)?.anchor()?;
            Ok::<_, NotifierKeyError>(Notifier { pem, anchor, group })
        };
        let secrets = Secrets {
            v: body.v.as_ref().map(|text| half(text)).transpose()?,
            notifier: pem.map(notifier).transpose()?,
        };
        let supported_version = match body.supported_version {
            None => ApiVersion::NEWEST,
            Some(text) => ApiVersion::parse(&text).ok_or(AddError::Version)?,
        };
        let terms = Terms::try_from(TermsText {
            ip: body.cloudagent_ip,
            port: body.cloudagent_port.0,
            verifier_ip: body.verifier_ip.unwrap_or_else(|| verifier.0.to_owned()),
            verifier_port: body.verifier_port.map_or(verifier.1, |port| port.0),
            tpm_policy: body.tpm_policy,
            runtime_policy: runtime.as_ref().map(Chosen::name),
            mb_policy: measured_boot.as_ref().map(Chosen::name),
            metadata,
            accept_tpm_hash_algs: body.accept_tpm_hash_algs,
            accept_tpm_encryption_algs: body.accept_tpm_encryption_algs,
            accept_tpm_signing_algs: body.accept_tpm_signing_algs,
            ak_tpm: body.ak_tpm,
            mtls_cert: body.mtls_cert,
            supported_version,
        })?;
        if terms.is_push() && secrets.v.is_some() {
            return Err(AddError::PushWithV);
        }
        let given = [runtime, measured_boot].into_iter().flatten();
        Ok(Self {
            terms,
            secrets,
            given: given.filter_map(Chosen::given).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Body {
    v: Option<Zeroizing<String>>,
    cloudagent_ip: String,
    cloudagent_port: Port,
    verifier_ip: Option<String>,
    verifier_port: Option<Port>,
    tpm_policy: String,
    runtime_policy: Option<String>,
    #[serde(default)]
    runtime_policy_name: Option<String>,
    #[serde(default)]
    runtime_policy_key: Option<String>,
    mb_policy: Option<String>,
    #[serde(default)]
    mb_policy_name: Option<String>,
    ima_sign_verification_keys: Option<String>,
    metadata: Option<String>,
    revocation_key: Option<Zeroizing<String>>,
    accept_tpm_hash_algs: Vec<String>,
    accept_tpm_encryption_algs: Vec<String>,
    accept_tpm_signing_algs: Vec<String>,
    ak_tpm: String,
    mtls_cert: String,
    supported_version: Option<String>,
}

/// A policy that a node is to be judged by.
enum Chosen {
    /// One that is there.
    Named(PolicyName),
    /// One that comes with the node.
    Given(Given),
}

impl Chosen {
    /// What the name and the text of a policy mean together; none if neither says anything.
    fn of(
        id: &Uuid,
        (field, name): (&'static str, Option<&str>),
        draft: Option<Result<Draft, DraftError>>,
    ) -> Result<Option<Self>, AddError> {
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let name = name.map(PolicyName::parse).transpose();
        let name = name.map_err(|error| AddError::PolicyName { field, error })?;
        Ok(match (name, draft.transpose()?) {
            (None, None) => None,
            (Some(name), None) => Some(Self::Named(name)),
            (name, Some(draft)) => Some(Self::Given(Given {
                alone: name.is_none(),
                name: name.unwrap_or_else(|| PolicyName::from(id)),
                draft,
            })),
        })
    }

    fn name(&self) -> PolicyName {
        match self {
            Self::Named(name) => name.clone(),
            Self::Given(given) => given.name.clone(),
        }
    }

    fn given(self) -> Option<Given> {
        match self {
            Self::Named(_) => None,
            Self::Given(given) => Some(given),
        }
    }
}

impl Body {
    fn runtime(&self, id: &Uuid) -> Result<Option<Chosen>, AddError> {
        let text = self
            .runtime_policy
            .as_deref()
            .filter(|text| says_something(text));
        let keys = self.ima_sign_verification_keys.as_deref();
        let keys = keys.filter(|text| says_something(text));
        if keys.is_some() && text.is_none() {
            return Err(AddError::LonelyKeys);
        }
        let key = self.runtime_policy_key.as_deref();
        let draft = text.map(|text| Draft::runtime(text, key)?.with_keys(keys));
        let name = ("runtime_policy_name", self.runtime_policy_name.as_deref());
        Chosen::of(id, name, draft)
    }

    fn measured_boot(&self, id: &Uuid) -> Result<Option<Chosen>, AddError> {
        let text = self
            .mb_policy
            .as_deref()
            .filter(|text| says_something(text));
        let draft = text.map(|text| {
            let bytes = text.as_bytes().to_vec();
            Draft::parse(PolicyKind::MeasuredBoot, bytes, None)
        });
        let name = ("mb_policy_name", self.mb_policy_name.as_deref());
        Chosen::of(id, name, draft)
    }
}

/// A port as a number or, as Keylime's tenant writes its verifier's, as text.
struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u16),
            Text(String),
        }
        let port = match Either::deserialize(deserializer)? {
            Either::Number(port) => Some(port),
            Either::Text(text) => text.parse().ok(),
        };
        port.map(Self)
            .ok_or_else(|| serde::de::Error::custom("no port"))
    }
}

/// Whether a policy is there: Keylime's tenant sends `""`, `"{}"` or `"[]"` where none was given, and `{}` in base64.
fn says_something(text: &str) -> bool {
    !matches!(text.trim(), "" | "{}" | "[]" | "e30=")
}

fn half(text: &str) -> Result<Zeroizing<Vec<u8>>, AddError> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text).map_err(|_| AddError::V)?);
    Half::from_slice(&bytes).map_err(|_| AddError::V)?;
    Ok(bytes)
}

/// The parser's words without what it quotes of the body, which may be a secret: line and column remain.
fn json_error(error: serde_json::Error) -> AddError {
    let place = format!("line {} column {}", error.line(), error.column());
    let reason = match error.classify() {
        serde_json::error::Category::Data => format!("a field has the wrong type at {place}"),
        _ => format!("no JSON at {place}"),
    };
    AddError::Json { reason }
}

/// Fields that must be there, though some may be null or empty.
const REQUIRED: &[&str] = &[
    "v",
    "cloudagent_ip",
    "cloudagent_port",
    "tpm_policy",
    "runtime_policy",
    "mb_policy",
    "ima_sign_verification_keys",
    "metadata",
    "revocation_key",
    "accept_tpm_hash_algs",
    "accept_tpm_encryption_algs",
    "accept_tpm_signing_algs",
    "ak_tpm",
    "mtls_cert",
];
