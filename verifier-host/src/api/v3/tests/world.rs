//! A verifier in this process, a node, and its tenant.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_core::payload::release::{ReleaseKey, Terms, WRAPPED_V_BYTES};
use agent_core::secret::Secret;
use agent_core::wire::manifest::{CapPcr, Deliver, Manifest, PayloadId};
use agent_core::wire::quote::{ClockInfo, Digest, HashAlg, MAX_DUMP_BYTES, PcrDump, PcrValues};
use agent_core::wire::receipt::{Reached, Receipt};
use agent_core::wire::statement;
use agent_core::wire::text::Uuid;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tower_service::Service as _;

use super::super::{Api, Clock, routes};
use crate::api::v2;
use crate::evidence::ima::tests as ima;
use crate::evidence::software::{SoftwareTpm, attest};
use crate::http::Peer;
use crate::payloads::Vault;
use crate::pki::Authority;
use crate::registrar::claim::Claim;
use crate::revocation::Notifications;
use crate::rounds::schedule::Rounds;
use crate::store::Store;
use crate::testing::runtime_policy;

pub(super) const V: [u8; 32] = *b"V is a canary that nobody prints";
pub(super) const SEALED: &[u8] = b"what would be ciphertext";

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Who {
    Nobody,
    Administrator,
    Agent(String),
    Both(String),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The status, and the code of an error.
    pub(super) fn said(&self) -> String {
        let code = self.json()["errors"][0]["code"].as_str().map(str::to_owned);
        match code {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// A verifier, without sockets.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) rounds: Rounds,
    router: Router,
    ahead: Arc<AtomicU64>,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::in_dir(TempDir::new().unwrap()).await
    }

    pub(super) async fn in_dir(dir: TempDir) -> Self {
        let store = Store::open(dir.path()).await.unwrap();
        let authority = Authority::open_or_create(&dir.path().join("cv_ca"), &[]).unwrap();
        let interval = Duration::from_millis(50);
        let rounds = Rounds::new(store, authority.into(), interval, Notifications::default());
        rounds.resume().await.unwrap();
        let vault = Vault::open(dir.path(), &rounds.sealed_files()).unwrap();
        let ahead = Arc::new(AtomicU64::new(0));
        let clock = {
            let (start, ahead) = (Instant::now(), Arc::clone(&ahead));
            Clock::new(move || start + Duration::from_millis(ahead.load(Ordering::Relaxed)))
        };
        let tenants = v2::Api {
            rounds: rounds.clone(),
            ip: "127.0.0.1".to_owned(),
            port: 8881,
            vault: vault.clone(),
        };
        let agents = Api::with_clock(rounds.clone(), vault, 1 << 20, clock);
        Self {
            dir,
            rounds,
            router: routes(agents).merge(v2::routes(tenants)),
            ahead,
        }
    }

    /// Ends as a stop does, and starts again.
    pub(super) async fn restart(self) -> Self {
        self.rounds.shut_down().await;
        let Self {
            dir,
            rounds,
            router,
            ..
        } = self;
        rounds.store().close().await;
        drop((rounds, router));
        // Tasks that were told to end may hold the lock for a moment.
        tokio::task::yield_now().await;
        Self::in_dir(dir).await
    }

    pub(super) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    pub(super) async fn raw(
        &self,
        who: &Who,
        line: &str,
        body: Body,
        more: &[(&str, &str)],
    ) -> Reply {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        if let Who::Agent(token) | Who::Both(token) = who {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let certified = matches!(who, Who::Administrator | Who::Both(_));
        let certificate = certified.then(|| Arc::new(vec![0x30].into()));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer {
            address: ([127, 0, 0, 1], 1).into(),
            certificate,
        });
        let response = self.router.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: to_bytes(body, 1 << 24).await.unwrap().to_vec(),
        }
    }

    pub(super) async fn ask(&self, who: &Who, line: &str, body: &Value) -> Reply {
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let kind = [("content-type", "application/vnd.api+json")];
        self.raw(who, line, body, &kind).await
    }

    pub(super) async fn tenant(&self, line: &str, body: &Value) -> Reply {
        self.ask(&Who::Administrator, line, body).await
    }

    /// What the tenant is told of a payload.
    pub(super) async fn report(&self, id: &str) -> Value {
        let path = format!("GET /v3.0/agents/{id}/payload");
        self.tenant(&path, &Value::Null).await.json()
    }

    pub(super) async fn status(&self, id: &str) -> String {
        let path = format!("GET /v2.6/agents/{id}");
        let view = self.tenant(&path, &Value::Null).await.json();
        view["results"]["attestation_status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Leftovers and payloads in the directory.
    pub(super) fn files(&self) -> usize {
        files(self.dir.path())
    }
}

pub(super) fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("payloads")).unwrap().count()
}

/// A node: a TPM, its PCRs, its clock.
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) tpm: SoftwareTpm,
    pub(super) pcrs: [Digest; 24],
    pub(super) clock: ClockInfo,
    /// What its IMA measured.
    pub(super) list: String,
    /// When it was started, as it says.
    pub(super) boot_time: &'static str,
}

/// A session of a node.
#[derive(Clone, Debug)]
pub(super) struct InSession {
    pub(super) who: Who,
    pub(super) challenge: Vec<u8>,
}

pub(super) fn zeros() -> Digest {
    Digest::from_slice(&[0; 32]).unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

impl Machine {
    pub(super) fn new(id: &str) -> Self {
        Self::with(id, SoftwareTpm::new())
    }

    pub(super) fn with(id: &str, tpm: SoftwareTpm) -> Self {
        Self {
            id: id.to_owned(),
            tpm,
            pcrs: std::array::from_fn(|_| zeros()),
            clock: ClockInfo {
                clock_ms: 1000,
                reset_count: 5,
                restart_count: 1,
                safe: true,
            },
            list: String::new(),
            boot_time: "2026-01-01T00:00:00Z",
        }
    }

    pub(super) fn uuid(&self) -> Uuid {
        Uuid::parse(&self.id).unwrap()
    }

    /// A reset: PCRs at their first values, one more in the counter.
    pub(super) fn reboot(&mut self) {
        self.clock.reset_count += 1;
        self.clock.restart_count = 0;
        self.pcrs = std::array::from_fn(|_| zeros());
        self.list.clear();
    }

    pub(super) fn cap(&mut self) {
        let value =
            HashAlg::Sha256.digest([&self.pcrs[15][..], &statement::cap(HashAlg::Sha256)[..]]);
        self.pcrs[15] = value;
    }

    pub(super) fn bind(&mut self, digest: &Digest) {
        self.pcrs[16] = statement::pcr_value(HashAlg::Sha256, digest);
    }

    /// Puts the node on the registrar's record.
    pub(super) async fn register(&self, world: &World) {
        let claim = Claim {
            ek: self.tpm.ek(),
            ak: self.tpm.ak(),
            ek_certificate: None,
            ip: None,
            port: None,
            mtls_cert: "disabled".to_owned(),
        };
        let store = world.rounds.store();
        store.record(&self.id, &claim).await.unwrap();
    }

    pub(super) fn addition(&self, policy: &Value) -> Value {
        json!({
            "v": null, "cloudagent_ip": "127.0.0.1", "cloudagent_port": 9002,
            "tpm_policy": policy.to_string(), "runtime_policy": "", "mb_policy": null,
            "ima_sign_verification_keys": "", "metadata": "{}", "revocation_key": "",
            "accept_tpm_hash_algs": ["sha256", "sha384"],
            "accept_tpm_encryption_algs": ["ecc", "rsa"],
            "accept_tpm_signing_algs": ["ecdsa", "rsassa"],
            "ak_tpm": b64(self.tpm.ak().marshalled()), "mtls_cert": "disabled",
        })
    }

    /// Adds the node, to be judged by what IMA measured; these files alone may be.
    pub(super) async fn enrol_judged(&self, world: &World, files: &[&str]) {
        let digests = files.iter().map(|path| {
            let digest = HashAlg::Sha256.digest([path.as_bytes()]);
            let digest = agent_core::wire::text::Hex(&digest).to_string();
            ((*path).to_owned(), json!([digest]))
        });
        let mut policy: Value = serde_json::from_str(&runtime_policy("/")).unwrap();
        policy["digests"] = Value::Object(digests.collect());
        let mut body = self.addition(&json!({}));
        body["runtime_policy"] = b64(policy.to_string()).into();
        let line = format!("POST /v2.6/agents/{}", self.id);
        let reply = world.tenant(&line, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
    }

    /// Its kernel measures a file whose content is its path.
    pub(super) fn measure(&mut self, path: &str) {
        let digest = HashAlg::Sha256.digest([path.as_bytes()]);
        ima::line(&mut self.list, &digest, path);
        self.pcrs[10] = ima::end(self.list.as_bytes(), HashAlg::Sha256).pcr;
    }

    /// Adds the node: PCR 7 as it is now.
    pub(super) async fn enrol(&self, world: &World) {
        let policy = json!({ "7": [agent_core::wire::text::Hex(&self.pcrs[7]).to_string()] });
        let line = format!("POST /v2.6/agents/{}", self.id);
        let reply = world.tenant(&line, &self.addition(&policy)).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
    }

    /// A node that is registered, added, and has a payload.
    pub(super) async fn ready(id: &str, world: &World, deliver: Deliver) -> Self {
        let machine = Self::new(id);
        machine.register(world).await;
        machine.enrol(world).await;
        machine.deposit(world, [1; 8], deliver).await;
        machine
    }

    pub(super) fn manifest(&self, payload: [u8; 8], deliver: Deliver) -> Manifest {
        Manifest {
            agent: self.uuid(),
            ek_name: self.tpm.ek().name().as_bytes().try_into().unwrap(),
            ak_name: self.tpm.ak().name().as_bytes().try_into().unwrap(),
            payload_id: PayloadId(payload),
            floor: None,
            sealed_sha256: Sha256::digest(SEALED).into(),
            sealed_bytes: SEALED.len() as u64,
            auth_tag: [2; 48],
            u_blob_sha256: Sha256::digest(b"blob").into(),
            policy_sha256: [4; 32],
            cap: CapPcr::at_zero(15, HashAlg::Sha256),
            deliver,
            script: None,
            sealed_at: 1_800_000_000,
            last_good_seconds: None,
        }
    }

    pub(super) fn deposit_body(&self, manifest: &Manifest) -> Value {
        let mut text = String::new();
        manifest.write(&mut text).unwrap();
        json!({
            "manifest": b64(text), "signature": b64("signature"), "signer": b64("signer"),
            "u_blob": b64("blob"), "v": b64(V),
        })
    }

    pub(super) async fn deposit(&self, world: &World, payload: [u8; 8], deliver: Deliver) {
        let manifest = self.manifest(payload, deliver);
        let line = format!("PUT /v3.0/agents/{}/payload", self.id);
        let reply = world.tenant(&line, &self.deposit_body(&manifest)).await;
        assert_eq!(reply.status, 201, "{}", reply.json());
        let reply = self.upload(world, payload, SEALED).await;
        assert_eq!(reply.status, 201, "{}", reply.json());
    }

    pub(super) async fn upload(
        &self,
        world: &World,
        payload: [u8; 8],
        bytes: &'static [u8],
    ) -> Reply {
        let line = format!(
            "PUT /v3.0/agents/{}/payload/{}/sealed",
            self.id,
            PayloadId(payload)
        );
        world
            .raw(&Who::Administrator, &line, bytes.into(), &[])
            .await
    }

    /// Opens a session: its number and challenge.
    pub(super) async fn open(&self, world: &World) -> (u64, Vec<u8>) {
        let methods = json!([{ "authentication_class": "pop", "authentication_type": "tpm_pop" }]);
        let attributes = json!({ "agent_id": self.id, "authentication_supported": methods });
        let body = json!({ "data": { "type": "session", "attributes": attributes } });
        let reply = world.ask(&Who::Nobody, "POST /v3.0/sessions", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let data = &reply.json()["data"];
        let chosen = &data["attributes"]["authentication_requested"][0]["chosen_parameters"];
        let challenge = BASE64_STANDARD
            .decode(chosen["challenge"].as_str().unwrap())
            .unwrap();
        (data["id"].as_str().unwrap().parse().unwrap(), challenge)
    }

    pub(super) async fn prove(&self, world: &World, session: u64, message: &[u8]) -> Reply {
        let signature = self.tpm.signature(message);
        let provided = json!([{
            "authentication_class": "pop", "authentication_type": "tpm_pop",
            "data": { "message": b64(message), "signature": b64(signature) },
        }]);
        let attributes = json!({ "agent_id": self.id, "authentication_provided": provided });
        let body =
            json!({ "data": { "type": "session", "id": session, "attributes": attributes } });
        let line = format!("PATCH /v3.0/sessions/{session}");
        world.ask(&Who::Nobody, &line, &body).await
    }

    pub(super) async fn session(&self, world: &World) -> InSession {
        let (id, challenge) = self.open(world).await;
        let reply = self.prove(world, id, &self.tpm.certify(&challenge)).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let attributes = &reply.json()["data"]["attributes"];
        assert_eq!(attributes["evaluation"], "pass", "{attributes}");
        let who = Who::Agent(attributes["token"].as_str().unwrap().to_owned());
        InSession { who, challenge }
    }

    pub(super) fn supported(&self) -> Value {
        let all: Vec<u8> = (0..24).collect();
        let key = json!({
            "key_class": "asymmetric", "key_algorithm": "ecc", "key_size": 256, "server_identifier": "ak",
            "local_identifier": "00", "public": "AA==",
        });
        json!({ "data": { "type": "attestation", "attributes": {
            "evidence_supported": [{
                "evidence_class": "certification", "evidence_type": "tpm_quote",
                "capabilities": {
                    "component_version": "2.0", "hash_algorithms": ["sha256"], "signature_schemes": ["ecdsa"],
                    "available_subjects": { "sha256": all }, "certification_keys": [key],
                },
            }],
            "system_info": { "boot_time": self.boot_time },
        }}})
    }

    pub(super) async fn begin(&self, world: &World, session: &InSession) -> Reply {
        let line = format!("POST /v3.0/agents/{}/attestations", self.id);
        world.ask(&session.who, &line, &self.supported()).await
    }

    /// Index, challenge and PCRs of an attestation that has begun.
    pub(super) fn asked(reply: &Reply) -> (u64, Vec<u8>, Vec<u8>) {
        assert_eq!(reply.status, 201, "{}", reply.json());
        let place = reply.headers["location"].to_str().unwrap();
        let index = place.rsplit('/').next().unwrap().parse().unwrap();
        let body = reply.json();
        let chosen = &body["data"]["attributes"]["evidence_requested"][0]["chosen_parameters"];
        let challenge = BASE64_STANDARD
            .decode(chosen["challenge"].as_str().unwrap())
            .unwrap();
        let pcrs = serde_json::from_value(chosen["selected_subjects"]["sha256"].clone()).unwrap();
        (index, challenge, pcrs)
    }

    /// A quote of these PCRs: message, signature, values.
    pub(super) fn quote(&mut self, challenge: &[u8], pcrs: &[u8]) -> Value {
        self.clock.clock_ms += 10;
        let mut values = PcrValues::new();
        for pcr in pcrs {
            values
                .push((*pcr, self.pcrs[usize::from(*pcr)].clone()))
                .unwrap();
        }
        let dump = PcrDump::new(HashAlg::Sha256, values).unwrap();
        let message = attest(challenge, &dump, HashAlg::Sha256, self.clock);
        let mut room = [0; MAX_DUMP_BYTES];
        json!({
            "subject_data": b64(dump.encode(&mut room)),
            "signature": b64(self.tpm.signature(&message)),
            "message": b64(message),
        })
    }

    pub(super) fn collected(data: &Value) -> Value {
        json!({ "data": { "type": "attestation", "attributes": { "evidence_collected": [
            { "evidence_class": "certification", "evidence_type": "tpm_quote", "data": data },
        ]}}})
    }

    pub(super) async fn send(
        &self,
        world: &World,
        session: &InSession,
        index: u64,
        data: &Value,
    ) -> Reply {
        let line = format!("PATCH /v3.0/agents/{}/attestations/{index}", self.id);
        world.ask(&session.who, &line, &Self::collected(data)).await
    }

    /// An attestation that is bound to this key, with whatever verdict; its index and challenge.
    pub(super) async fn attest(
        &mut self,
        world: &World,
        session: &InSession,
        key: &ReleaseKey,
    ) -> (u64, Vec<u8>) {
        let (index, challenge, pcrs) = Self::asked(&self.begin(world, session).await);
        let uuid = self.uuid();
        self.bind(&statement::release(
            HashAlg::Sha256,
            &uuid,
            &challenge,
            key.public(),
        ));
        let data = self.quote(&challenge, &pcrs);
        let reply = self.send(world, session, index, &data).await;
        assert_eq!(reply.status, 202, "{}", reply.json());
        (index, challenge)
    }

    pub(super) async fn verdict(&self, world: &World, session: &InSession) -> Value {
        let line = format!("GET /v3.0/agents/{}/attestations/latest", self.id);
        let reply = world.ask(&session.who, &line, &Value::Null).await;
        reply.json()["data"]["attributes"].clone()
    }

    pub(super) async fn release(
        &self,
        world: &World,
        session: &InSession,
        index: u64,
        payload: [u8; 8],
        key: &ReleaseKey,
    ) -> Reply {
        let body = json!({
            "attestation": index, "payload_id": PayloadId(payload).to_string(), "release_key": b64(key.public()),
        });
        let line = format!("POST /v3.0/agents/{}/payload/release", self.id);
        world.ask(&session.who, &line, &body).await
    }

    /// Attests and asks, in a session of its own; what was said.
    pub(super) async fn try_release(&mut self, world: &World, payload: [u8; 8]) -> String {
        let session = self.session(world).await;
        let key = release_key(9);
        let (index, _) = self.attest(world, &session, &key).await;
        self.release(world, &session, index, payload, &key)
            .await
            .said()
    }

    /// V out of an answer.
    pub(super) fn unwrap(
        &self,
        reply: &Reply,
        manifest: &Manifest,
        challenge: &[u8],
        key: &ReleaseKey,
    ) -> [u8; 32] {
        assert_eq!(reply.status, 200, "{}", reply.json());
        let body = reply.json();
        let v = BASE64_STANDARD.decode(body["v"].as_str().unwrap()).unwrap();
        let wrapped: [u8; WRAPPED_V_BYTES] = v.try_into().unwrap();
        let mut text = String::new();
        manifest.write(&mut text).unwrap();
        let uuid = self.uuid();
        let terms = Terms {
            agent: &uuid,
            challenge,
            manifest: text.as_bytes(),
        };
        *key.unwrap(&terms, &wrapped).unwrap().as_ref()
    }

    /// A receipt's body, over this challenge.
    pub(super) fn receipt(&mut self, challenge: &[u8], payload: [u8; 8]) -> Value {
        let receipt = Receipt {
            agent: self.uuid(),
            payload_id: PayloadId(payload),
            reached: Reached::Finished,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            duration_ms: Some(5),
            error: None,
        };
        let mut text = String::new();
        receipt.write(&mut text).unwrap();
        let uuid = self.uuid();
        self.bind(&statement::receipt(
            HashAlg::Sha256,
            &uuid,
            challenge,
            text.as_bytes(),
        ));
        let mut body = self.quote(challenge, &[7, 15, 16]);
        body["receipt"] = b64(text).into();
        body
    }

    pub(super) async fn give_receipt(
        &self,
        world: &World,
        session: &InSession,
        body: &Value,
    ) -> Reply {
        let line = format!("POST /v3.0/agents/{}/payload/receipt", self.id);
        world.ask(&session.who, &line, body).await
    }
}

pub(super) fn release_key(seed: u8) -> ReleaseKey {
    ReleaseKey::from_random(&Secret::copy_of(&[seed; 32]), &Secret::copy_of(&[7; 32]))
}

pub(super) fn status(reply: &Reply, wanted: StatusCode) {
    assert_eq!(reply.status, wanted.as_u16(), "{}", reply.json());
}
