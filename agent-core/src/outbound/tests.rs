//! The machine against a verifier that is played here, with a TPM in memory.

extern crate std;

mod last_good;
mod logs;
mod news;
mod refusals;
mod retries;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::http::emit::Verb;
use crate::http::head::After;
use crate::payload::halves::Key;
use crate::payload::release::{ReleaseKey, Terms, wrap};
use crate::tpm::{FakeTpm, Tpm, name_of};
use crate::wire::json::Value;
use crate::wire::manifest::{CapPcr, Deliver, Manifest};
use crate::wire::push::{Code, MAX_BODY_BYTES};
use crate::wire::quote::{Attest, PcrMask};
use crate::wire::statement;

const AGENT: &str = "node-1";
const ID: PayloadId = PayloadId([7; 8]);
const SIGNER: &[u8] = b"certificate of the tenant";
const U: [u8; 32] = [0x11; 32];
const V: [u8; 32] = [0x22; 32];
const SESSION: [u8; 16] = [1; 16];

/// A signature that a test can make: the hash of key and message.
struct Signatures;

fn sign(signer: &[u8], message: &[u8]) -> Vec<u8> {
    Sha256::digest([signer, message].concat()).to_vec()
}

impl Verify for Signatures {
    fn verify(&self, signer: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        match sign(signer, message) == signature {
            true => Ok(()),
            false => Err(VerifyError::Mismatch),
        }
    }
}

struct Reply {
    status: u16,
    retry_after: Option<u64>,
    location: Option<String>,
    body: String,
}

impl Reply {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            retry_after: None,
            location: None,
            body: body.into(),
        }
    }

    fn error(status: u16, code: &str) -> Self {
        let body = format!(
            r#"{{"errors":[{{"status":"{status}","code":"{code}","title":"t","detail":"d"}}]}}"#
        );
        Self::new(status, body)
    }

    fn after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

/// What a test changes: by the kind of request and how often it came before, another answer; the inner none is a lost one.
type Twist<'t> = &'t dyn Fn(&str, usize) -> Option<Option<Reply>>;

/// A node, its verifier, and what happened.
struct Play {
    machine: Outbound,
    tpm: FakeTpm,
    manifest: Manifest,
    signer: Vec<u8>,
    /// What is signed; the manifest itself unless a test forges it.
    signed: Option<Vec<u8>>,
    u_blob: Vec<u8>,
    v: [u8; 32],
    now: u64,
    attestation: u64,
    /// PCR 16 of the last evidence.
    stated: Vec<u8>,
    release_keys: Vec<[u8; 32]>,
    events: Vec<String>,
    receipts: Vec<Receipt>,
    fetched: Vec<&'static str>,
    script: Result<ScriptOutcome, &'static str>,
    unpacks: bool,
    /// The system's clock, where the test has one.
    wall: Option<u64>,
    /// The answer with the deposit, and the copy that was kept.
    deposit: Vec<u8>,
    copy: Option<Vec<u8>>,
    /// What is asked for behind the quote, and what was attached to which request.
    asked_logs: &'static str,
    attached: Vec<(&'static str, Attached)>,
    /// How asking for revocations goes, the first time first; then well.
    caught: Vec<CaughtUp>,
}

fn key() -> Key {
    let k: Vec<u8> = U.iter().zip(V).map(|(u, v)| u ^ v).collect();
    Key::from_slice(&k).unwrap()
}

impl Play {
    fn new(mode: Mode) -> Self {
        let tpm = FakeTpm::new(1);
        let agent = Uuid::parse(AGENT).unwrap();
        let u_blob = tpm.wrap(&U).to_vec();
        let manifest = Manifest {
            agent: agent.clone(),
            ek_name: name_of(&tpm.identity().ek_public),
            ak_name: name_of(&tpm.identity().ak_public),
            payload_id: ID,
            floor: None,
            sealed_sha256: [5; 32],
            sealed_bytes: 1000,
            auth_tag: key().auth_tag(AGENT.as_bytes()),
            u_blob_sha256: Sha256::digest(&u_blob).into(),
            policy_sha256: [0; 32],
            cap: CapPcr::at_zero(15, HashAlg::Sha256),
            deliver: Deliver::PerBoot,
            script: Some("autorun.sh".try_into().unwrap()),
            sealed_at: 0,
            last_good_seconds: None,
        };
        let config = OutboundConfig {
            mode,
            agent,
            sign: SignAlg::Ecdsa,
            hash: HashAlg::Sha256,
            signers: heapless::Vec::from_slice(&[Sha256::digest(SIGNER).into()]).unwrap(),
            counter: None,
            max_sealed_bytes: 1 << 20,
            boot_time: 1_800_000_000,
            last_good: false,
            pace: Pace {
                first_ms: 100,
                last_ms: 1000,
            },
        };
        Self {
            machine: Outbound::new(config),
            tpm,
            manifest,
            signer: SIGNER.to_vec(),
            signed: None,
            u_blob,
            v: V,
            now: 1000,
            attestation: 0,
            stated: Vec::new(),
            release_keys: Vec::new(),
            events: Vec::new(),
            receipts: Vec::new(),
            fetched: Vec::new(),
            script: Ok(ScriptOutcome {
                exit_code: Some(0),
                signal: None,
                timed_out: false,
                duration_ms: 5,
            }),
            unpacks: true,
            wall: None,
            deposit: Vec::new(),
            copy: None,
            asked_logs: "",
            attached: Vec::new(),
            caught: Vec::new(),
        }
    }

    fn with_counter(mut self, counter: Option<u64>, floor: Option<u64>) -> Self {
        self.machine.config.counter = Some(0x0180_0001);
        self.tpm.counter = counter;
        self.manifest.floor = floor;
        self
    }

    fn manifest_bytes(&self) -> Vec<u8> {
        let mut text = String::new();
        self.manifest.write(&mut text).unwrap();
        text.into_bytes()
    }

    fn challenge(&self) -> [u8; 16] {
        [u8::try_from(self.attestation).unwrap(); 16]
    }

    /// The verifier's answer, if all goes well.
    fn answer(&mut self, kind: &str, body: &str) -> Reply {
        let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
        match kind {
            "session" => Reply::new(
                200,
                format!(
                    r#"{{"data":{{"type":"session","id":"s1","attributes":{{"authentication_requested":[{{"authentication_class":"pop","authentication_type":"tpm_pop","chosen_parameters":{{"challenge":"{}"}}}}]}}}}}}"#,
                    base64(&SESSION)
                ),
            ),
            "proof" => Reply::new(
                200,
                r#"{"data":{"id":"s1","attributes":{"evaluation":"pass","token":"secret-token"}}}"#,
            ),
            "manifest" => {
                let manifest = self.manifest_bytes();
                let signed = self.signed.clone().unwrap_or_else(|| manifest.clone());
                Reply::new(
                    200,
                    format!(
                        r#"{{"payload_id":"{}","manifest":"{}","signature":"{}","signer":"{}","u_blob":"{}"}}"#,
                        self.manifest.payload_id,
                        base64(&manifest),
                        base64(&sign(SIGNER, &signed)),
                        base64(&self.signer),
                        base64(&self.u_blob)
                    ),
                )
            }
            "offer" => {
                self.attestation += 1;
                let body = format!(
                    r#"{{"data":{{"attributes":{{"stage":"awaiting_evidence","evidence_requested":[{{"evidence_class":"certification","evidence_type":"tpm_quote","chosen_parameters":{{"challenge":"{}","signature_scheme":"ecdsa","hash_algorithm":"sha256","selected_subjects":{{"sha256":[0,7,16]}}}}}}{}]}}}}}}"#,
                    base64(&self.challenge()),
                    self.asked_logs
                );
                Reply {
                    location: Some(format!(
                        "/v3.0/agents/{AGENT}/attestations/{}",
                        self.attestation
                    )),
                    ..Reply::new(201, body)
                }
            }
            "evidence" => {
                self.take_evidence(body);
                Reply::new(202, r#"{"meta":{"seconds_to_next_attestation":60}}"#)
            }
            "verdict" => Reply::new(
                200,
                r#"{"data":{"attributes":{"evaluation":"pass","failure_reason":null}}}"#,
            ),
            "release" => self.release(body),
            "receipt" => {
                let root = Value::parse(body.as_bytes()).unwrap();
                let receipt = root.member("receipt").and_then(Value::text).unwrap();
                let receipt = STANDARD.decode(receipt).unwrap();
                let agent = Uuid::parse(AGENT).unwrap();
                let digest = statement::receipt(HashAlg::Sha256, &agent, &SESSION, &receipt);
                self.take_quote(root, &SESSION, PcrMask::EMPTY.with(15).with(16));
                assert_eq!(
                    self.stated,
                    statement::pcr_value(HashAlg::Sha256, &digest).to_vec()
                );
                self.receipts.push(Receipt::parse(&receipt).unwrap());
                Reply::new(201, "{}")
            }
            _ => panic!("{kind}"),
        }
    }

    fn take_evidence(&mut self, body: &str) {
        let root = Value::parse(body.as_bytes()).unwrap();
        let collected = root.path(&["data", "attributes", "evidence_collected"]);
        let quote = collected.unwrap().items().next().unwrap();
        let pcrs = PcrMask::EMPTY.with(0).with(7).with(16);
        let pcrs = match self.machine.wanted.is_some() {
            true => pcrs.with(15),
            false => pcrs,
        };
        self.take_quote(quote.member("data").unwrap(), &self.challenge(), pcrs);
    }

    fn take_quote(&mut self, data: Value<'_>, challenge: &[u8], pcrs: PcrMask) {
        let part = |name: &str| {
            STANDARD
                .decode(data.member(name).unwrap().text().unwrap())
                .unwrap()
        };
        let message = part("message");
        let attest = Attest::parse(&message).unwrap();
        assert_eq!((attest.extra_data, attest.pcrs), (challenge, pcrs));
        let dump = crate::wire::quote::PcrDump::parse(&part("subject_data")).unwrap();
        assert_eq!(dump.digest(HashAlg::Sha256), attest.pcr_digest);
        self.stated = dump.value(16).unwrap().to_vec();
    }

    fn release(&mut self, body: &str) -> Reply {
        let root = Value::parse(body.as_bytes()).unwrap();
        assert_eq!(
            root.member("attestation").and_then(Value::number),
            Some(self.attestation)
        );
        let text = root.member("release_key").and_then(Value::text).unwrap();
        let release_key: [u8; 32] = STANDARD.decode(text).unwrap().try_into().unwrap();
        let agent = Uuid::parse(AGENT).unwrap();
        let digest = statement::release(HashAlg::Sha256, &agent, &self.challenge(), &release_key);
        if self.stated != statement::pcr_value(HashAlg::Sha256, &digest).to_vec() {
            return Reply::error(403, "not-bound");
        }
        self.release_keys.push(release_key);
        let ephemeral = ReleaseKey::from_random(&Secret::copy_of(&[8; 32]), &Secret::zeroed());
        let terms = Terms {
            agent: &agent,
            challenge: &self.challenge(),
            manifest: &self.manifest_bytes(),
        };
        let v = wrap(&ephemeral, &release_key, &terms, &Secret::copy_of(&self.v)).unwrap();
        let body = format!(
            r#"{{"payload_id":"{}","v":"{}"}}"#,
            self.manifest.payload_id,
            STANDARD.encode(v)
        );
        Reply::new(200, body)
    }

    /// Plays to the end, at most this many steps; `None` if it goes on longer.
    fn run(&mut self, steps: usize, twist: Twist<'_>) -> Option<End> {
        for _ in 0..steps {
            if let Some(end) = self.step(twist) {
                return Some(end);
            }
        }
        None
    }

    fn step(&mut self, twist: Twist<'_>) -> Option<End> {
        let random = Secret::copy_of(&[u8::try_from(self.events.len()).unwrap(); 32]);
        let mut body = heapless::String::<MAX_BODY_BYTES>::new();
        self.now += 1;
        let moment = Moment {
            now: self.now,
            dice: 0x8000_0000,
            random: &random,
            wall: self.wall,
        };
        match self.machine.next(&moment, &mut self.tpm, &mut body) {
            Step::Send(request) => {
                let kind = kind(&request);
                let attached = request.logs.map(|logs| (kind, logs));
                self.events.push(kind.to_string());
                self.attached.extend(attached);
                if let Some((_, logs)) = attached {
                    assert!(body.ends_with(logs.tail()), "{body}");
                }
                let before = self.events.iter().filter(|event| *event == kind).count() - 1;
                let reply = match twist(kind, before) {
                    Some(reply) => reply,
                    None => Some(self.answer(kind, &body)),
                };
                if let Some(reply) = reply.as_ref().filter(|_| kind == "manifest") {
                    self.deposit = reply.body.clone().into_bytes();
                }
                let answer = reply.as_ref().map(|reply| Answer {
                    status: reply.status,
                    after: After::Keep,
                    retry_after: reply.retry_after,
                    location: reply.location.as_deref(),
                    body: reply.body.as_bytes(),
                });
                self.machine
                    .answered(&moment, answer.as_ref(), &Signatures, &mut self.tpm);
            }
            Step::Wait { millis, why } => {
                self.events.push(format!("wait {millis} {why:?}"));
                self.now += millis;
            }
            Step::Register => {
                self.events.push("register".to_string());
                self.machine.registered(&moment, true);
            }
            Step::Fetch(fetch) => {
                assert_eq!(
                    fetch.path,
                    format!("/v3.0/agents/{AGENT}/payload/{ID}/sealed")
                );
                assert_eq!(fetch.token, Some("secret-token"));
                assert_eq!(fetch.sha256, &[5; 32]);
                self.events.push("fetch".to_string());
                let next = match self.fetched.is_empty() {
                    true => "whole",
                    false => self.fetched.remove(0),
                };
                let gone = Reply::error(404, "unknown-payload");
                let fetched = match next {
                    "whole" => Fetched::Whole,
                    "lost" => Fetched::Lost,
                    "digest" => Fetched::Digest,
                    "full" => Fetched::NoRoom(&"disk full"),
                    _ => Fetched::Answered(Answer {
                        status: gone.status,
                        after: After::Keep,
                        retry_after: None,
                        location: None,
                        body: gone.body.as_bytes(),
                    }),
                };
                self.machine.fetched(&moment, &fetched);
            }
            Step::Unpack(unpack) => {
                assert_eq!(unpack.key.as_bytes(), key().as_bytes());
                assert_eq!((unpack.binding.payload_id, unpack.binding.count), (ID, 1));
                assert_eq!(self.tpm.caps, 0, "capped too early");
                self.events.push("unpack".to_string());
                match self.unpacks {
                    true => self.machine.unpacked(Ok(())),
                    false => self.machine.unpacked(Err(&"no zip")),
                }
            }
            Step::Run { script } => {
                assert_eq!((script, self.tpm.caps), ("autorun.sh", 1));
                self.events.push("run".to_string());
                let outcome = self.script;
                match &outcome {
                    Ok(outcome) => self.machine.ran(Ok(*outcome)),
                    Err(error) => self.machine.ran(Err(error)),
                }
            }
            Step::Attested {
                attestation,
                verdict,
            } => {
                let verdict = verdict.map(|verdict| verdict.evaluation);
                self.events
                    .push(format!("attested {attestation} {verdict:?}"));
            }
            Step::Keep { head } => {
                assert_eq!(self.tpm.caps, 1, "kept before the cap");
                self.events.push("keep".to_string());
                self.copy = Some([head, &self.deposit].concat());
            }
            Step::Forget(why) => {
                self.events.push(format!("forget: {why}"));
                self.copy = None;
            }
            Step::Reread(reread) => {
                assert_eq!((reread.payload_id, reread.sha256), (ID, &[5; 32]));
                self.events.push("reread".to_string());
                let fetched = match self.fetched.pop() {
                    None => Fetched::Whole,
                    Some(_) => Fetched::Digest,
                };
                self.machine.fetched(&moment, &fetched);
            }
            Step::CatchUp(ask) => {
                assert_eq!((ask.agent.as_str(), ask.token), (AGENT, "secret-token"));
                self.events.push("catch up".to_string());
                let result = match self.caught.is_empty() {
                    true => CaughtUp::Done,
                    false => self.caught.remove(0),
                };
                self.machine.caught_up(&moment, result);
            }
            Step::NoCopy(why) => self.events.push(format!("no copy: {why}")),
            Step::Report(end) => self.events.push(format!("report {end}")),
            Step::Done(end) => return Some(end),
        }
        None
    }

    fn released(&self) -> bool {
        self.events.iter().any(|event| event == "release")
    }

    fn requests(&self) -> usize {
        let is_request = |event: &&String| {
            !event.starts_with("wait") && !matches!(event.as_str(), "unpack" | "run" | "register")
        };
        self.events.iter().filter(is_request).count()
    }
}

fn kind(request: &Request<'_>) -> &'static str {
    let path = request.path;
    let is_attestation = path.contains("/attestations/");
    let kind = match request.verb {
        Verb::Post if path == "/v3.0/sessions" => "session",
        Verb::Patch if path == "/v3.0/sessions/s1" => "proof",
        Verb::Get if path.ends_with("/payload") => "manifest",
        Verb::Post if path.ends_with("/attestations") => "offer",
        Verb::Patch if is_attestation => "evidence",
        Verb::Get if is_attestation => "verdict",
        Verb::Post if path.ends_with("/release") => "release",
        Verb::Post if path.ends_with("/receipt") => "receipt",
        _ => panic!("{path}"),
    };
    let expected = match kind {
        "session" | "proof" => None,
        _ => Some("secret-token"),
    };
    assert_eq!(request.token, expected, "{kind}");
    kind
}

fn plain(_: &str, _: usize) -> Option<Option<Reply>> {
    None
}

#[test]
fn a_node_gets_its_payload() {
    let mut play = Play::new(Mode::Provision);
    assert_eq!(play.run(30, &plain), Some(End::Finished));
    assert_eq!(
        play.events,
        [
            "session", "proof", "manifest", "fetch", "offer", "evidence", "release", "unpack",
            "receipt", "run", "receipt", "catch up"
        ]
    );
    assert!(play.requests() <= 12);
    assert_eq!(play.tpm.caps, 1);
    let stages: Vec<_> = play.receipts.iter().map(|one| one.reached).collect();
    assert_eq!(stages, [Reached::Unpacked, Reached::Finished]);
    assert_eq!(play.receipts[1].exit_code, Some(0));
    // Asked again, it says the same and does nothing.
    assert_eq!(play.run(1, &plain), Some(End::Finished));
    assert_eq!(play.tpm.caps, 1);
}

#[test]
fn pcr_16_is_written_before_each_quote() {
    let mut play = Play::new(Mode::Provision);
    play.tpm.moving = 1;
    play.tpm.meddled = 1;
    assert_eq!(play.run(30, &plain), Some(End::Finished));
    let log = core::str::from_utf8(&play.tpm.statements)
        .unwrap()
        .to_string();
    // The evidence, once more because another program reset PCR 16; then two receipts.
    assert_eq!(log, "reqreqreqreq");
}

#[test]
fn release_key_is_wiped_once_it_has_served() {
    let mut play = Play::new(Mode::Provision);
    let never = play.run(7, &plain);
    assert_eq!((never, play.released()), (None, true));
    assert!(play.machine.round.is_none());
    play.run(30, &plain);
    assert!(play.machine.v.is_none() && play.machine.round.is_none());
    // One that wasn't used goes with its attestation, and the next has another.
    let mut play = Play::new(Mode::Provision);
    let stale = |kind: &str, n: usize| {
        (kind == "release" && n < 2).then(|| Some(Reply::error(403, "not-fresh")))
    };
    let mut keys = Vec::new();
    for _ in 0..40 {
        if let Some(round) = &play.machine.round {
            let key = *round.key.as_ref().unwrap().public();
            if keys.last() != Some(&key) {
                keys.push(key);
            }
        }
        if play.step(&stale).is_some() {
            break;
        }
    }
    assert_eq!(keys.len(), 3);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}
