//! An agent over real TLS, with a [`SoftTpm`]: honest, until a test gives it another mood.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use agent_core::wire::quote::PcrMask;
use agent_core::wire::text::Hex;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::rngs::SysRng;
use rsa::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::{Oaep, PrivateKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tokio::task::JoinHandle;
use verifier_host::http::{Listening, Peer, StopSwitch, stop_switch};
use verifier_host::pki::{Credentials, read_certificates, server_config};

use crate::tpm::SoftTpm;

/// What an agent does when it is asked for a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Honest,
    /// Every quote is the first one again.
    Replaying,
    /// Answers after this time.
    Slow(Duration),
    /// Refuses to quote.
    Refusing(StatusCode),
    /// Speaks this version alone.
    Speaking(&'static str),
    /// Quotes, but doesn't take V.
    RefusingV(StatusCode),
}

/// What the agent is and what it was told.
pub(crate) struct Inner {
    pub(crate) tpm: SoftTpm,
    pub(crate) mood: Mood,
    pub(crate) key: PrivateKey,
    /// Path and query of each question.
    pub(crate) asked: Vec<String>,
    /// Halves that it was given, decrypted.
    pub(crate) halves: Vec<Vec<u8>>,
    /// Bodies of revocations.
    pub(crate) revocations: Vec<Value>,
    /// What it keeps of revocations; none: it is Keylime's.
    pub(crate) log: Option<Log>,
    /// What it answers instead of what is true, to entries and to questions after them.
    pub(crate) lie: Option<fn(u64) -> Response>,
    /// How often it was asked for outcomes.
    pub(crate) outcomes_asked: usize,
    /// Its IMA list.
    pub(crate) list: Vec<String>,
    first_quote: Option<String>,
}

/// A log as an agent of ours keeps it.
#[derive(Default)]
pub(crate) struct Log {
    /// The log; none before the first entry.
    pub(crate) id: Option<String>,
    /// How many entries it took.
    pub(crate) taken: u64,
    /// How many of them it has acted on.
    pub(crate) acted: u64,
    /// Whether its actions go on until a test ends them.
    pub(crate) busy: bool,
}

impl Log {
    fn said(&self) -> Value {
        json!({ "log_id": self.id, "position": self.acted, "wanted": self.taken + 1 })
    }

    fn take(&mut self, entry: &Value) -> Value {
        let msg: Value = serde_json::from_str(entry["msg"].as_str().unwrap()).unwrap();
        self.id = msg["log_id"].as_str().map(str::to_owned);
        if msg["number"] == self.taken + 1 {
            self.taken += 1;
            if !self.busy {
                self.acted = self.taken;
            }
        }
        self.said()
    }

    fn outcomes(&self, after: u64) -> Value {
        let mut said = self.said();
        let action = |number| json!({ "name": format!("local_action_{number}"), "exit_code": 0, "duration_ms": 2 });
        let ended = (after + 1..=self.acted)
            .map(|number| json!({ "number": number, "actions": [action(number)] }));
        said["outcomes"] = ended.collect();
        said
    }
}

/// The agent and its server.
pub(crate) struct Agent {
    inner: Arc<Mutex<Inner>>,
    cv_ca: std::path::PathBuf,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
    address: SocketAddr,
    serving: Option<(StopSwitch, JoinHandle<()>)>,
}

/// Two transport keys, made once: making one takes a while.
pub(crate) static KEYS: LazyLock<[PrivateKey; 2]> =
    LazyLock::new(|| [(); 2].map(|()| PrivateKey::new(&mut SysRng, 2048).unwrap()));

impl Agent {
    /// One that trusts clients of this `cv_ca`, listening at this address.
    pub(crate) async fn start(cv_ca: &Path, ip: &str, seed: u8) -> Self {
        let mut agent = Self::absent(cv_ca, ip, seed);
        agent.come_up().await;
        agent
    }

    /// One that isn't listening yet.
    pub(crate) fn absent(cv_ca: &Path, ip: &str, seed: u8) -> Self {
        let mut tpm = SoftTpm::new(seed);
        tpm.measure(7, b"boot");
        let inner = Inner {
            tpm,
            mood: Mood::Honest,
            key: KEYS[0].clone(),
            asked: Vec::new(),
            halves: Vec::new(),
            revocations: Vec::new(),
            log: None,
            lie: None,
            outcomes_asked: 0,
            list: Vec::new(),
            first_quote: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            cv_ca: cv_ca.to_owned(),
            certificate: rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap(),
            address: (ip.parse::<std::net::IpAddr>().unwrap(), 9002).into(),
            serving: None,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn certificate(&self) -> String {
        self.certificate.cert.pem()
    }

    /// Listens, with the certificate that it registered.
    pub(crate) async fn come_up(&mut self) {
        let key = PrivateKeyDer::try_from(self.certificate.signing_key.serialize_der()).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![self.certificate.cert.der().clone()];
        let cas = read_certificates(&self.cv_ca.join("cacert.crt")).unwrap();
        let tls = server_config(&Credentials::new(chain, key), &cas).unwrap();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.inner));
        let listening = Listening::bind(self.address, Some(tls), router)
            .await
            .unwrap();
        let (switch, stop) = stop_switch();
        self.serving = Some((switch, tokio::spawn(listening.serve(stop))));
    }

    /// Ends, as a machine that is switched off.
    pub(crate) async fn go_down(&mut self) {
        if let Some((switch, task)) = self.serving.take() {
            switch.stop();
            task.await.unwrap();
        }
    }

    /// Another machine takes the address: same TPM, other TLS key.
    pub(crate) fn lose_certificate(&mut self) {
        self.certificate = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    }
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, peer: Peer, request: Request) -> Response {
    if peer.certificate.is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body: Body = request.into_body();
    let body: Value =
        serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap_or_default();
    let mood = inner.lock().unwrap().mood;
    if let Mood::Slow(time) = mood {
        tokio::time::sleep(time).await;
    }
    let mut inner = inner.lock().unwrap();
    if let Mood::Speaking(version) = mood
        && !path.starts_with(&format!("/v{version}/"))
        && path != "/version"
    {
        return error(StatusCode::BAD_REQUEST, "API version not supported");
    }
    match path.split('/').skip(2).collect::<Vec<_>>()[..] {
        [] => {
            let only = if let Mood::Speaking(version) = mood {
                version
            } else {
                "2.6"
            };
            success(json!({ "supported_version": only, "supported_versions": [only] }))
        }
        ["quotes", "integrity"] => inner.integrity(&query),
        ["keys", "vkey"] => inner.vkey(&body),
        ["notifications", "revocation"] => {
            inner.revocations.push(body.clone());
            let sent = inner.revocations.len() as u64;
            match (inner.lie, &mut inner.log) {
                (Some(lie), _) => lie(sent),
                (None, Some(log)) => success(log.take(&body)),
                (None, None) => success(Value::Null),
            }
        }
        ["revocations", "outcomes"] if inner.log.is_some() => {
            inner.outcomes_asked += 1;
            let after = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("after="));
            let after = after.unwrap().parse().unwrap();
            match (inner.lie, &inner.log) {
                (Some(lie), _) => lie(after),
                (None, Some(log)) => success(log.outcomes(after)),
                (None, None) => unreachable!(),
            }
        }
        _ => error(StatusCode::NOT_FOUND, "no such route"),
    }
}

impl Inner {
    pub(crate) fn pem(&self) -> String {
        self.key
            .to_public_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap()
    }

    fn integrity(&mut self, query: &str) -> Response {
        self.asked.push(query.to_owned());
        if let Mood::Refusing(status) = self.mood {
            return error(status, "not now");
        }
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find_map(|(key, value)| (key == name).then_some(value))
                .unwrap()
        };
        let mask = u32::from_str_radix(value("mask").trim_start_matches("0x"), 16).unwrap();
        let pem = self.pem();
        self.tpm.measure(16, pem.as_bytes());
        let mut quote = self
            .tpm
            .quote(value("nonce"), PcrMask::from_bits(mask).unwrap());
        let first = self.first_quote.get_or_insert_with(|| quote.clone());
        if self.mood == Mood::Replaying {
            quote.clone_from(first);
        }
        let mut results = json!({
            "quote": quote, "hash_alg": "sha256", "enc_alg": "rsa2048", "sign_alg": "ecdsa",
        });
        if value("partial") == "0" {
            results["pubkey"] = pem.into();
        }
        if !self.list.is_empty() {
            let wanted: usize = value("ima_ml_entry").parse().unwrap();
            let first = if wanted > self.list.len() { 0 } else { wanted };
            results["ima_measurement_list"] = self.list[first..].concat().into();
            results["ima_measurement_list_entry"] = first.into();
        }
        success(results)
    }

    /// The kernel measures a file with this content: a line of the list, and an extend of PCR 10.
    pub(crate) fn measure_file(&mut self, path: &str, content: &[u8]) {
        let (hash, data) = ima_ng(path, content);
        let template = Sha1::digest(&data);
        let line = format!("10 {} ima-ng sha256:{hash} {path}\n", Hex(&template));
        let measured = self.tpm.bank.digest([&data[..]]);
        self.tpm.extend(10, &measured);
        self.list.push(line);
    }

    fn vkey(&mut self, body: &Value) -> Response {
        if let Mood::RefusingV(status) = self.mood {
            return error(status, "not now");
        }
        let sealed = BASE64_STANDARD
            .decode(body["encrypted_key"].as_str().unwrap())
            .unwrap();
        match self.key.decrypt(Oaep::<Sha1>::new(), &sealed) {
            Ok(half) => {
                self.halves.push(half);
                success(Value::Null)
            }
            Err(_) => error(StatusCode::BAD_REQUEST, "not for this key"),
        }
    }
}

/// Hash of the content, and the template data of `ima-ng`: two fields, each with its length in front.
fn ima_ng(path: &str, content: &[u8]) -> (String, Vec<u8>) {
    let hash = Sha256::digest(content);
    let fields = [
        [&b"sha256:\0"[..], &hash[..]].concat(),
        format!("{path}\0").into_bytes(),
    ];
    let sized = |field: &Vec<u8>| {
        let length = u32::try_from(field.len()).unwrap().to_le_bytes();
        [&length[..], field].concat()
    };
    (
        Hex(&hash).to_string(),
        fields.iter().flat_map(sized).collect(),
    )
}

/// The digest of a content, as policies have it.
pub(crate) fn digest_of(content: &[u8]) -> String {
    ima_ng("", content).0
}

pub(crate) fn success(results: Value) -> Response {
    json!({ "code": 200, "status": "Success", "results": results })
        .to_string()
        .into_response()
}

pub(crate) fn error(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "code": status.as_u16(), "status": reason, "results": {} });
    (status, body.to_string()).into_response()
}
