//! A node that calls the verifier, simulated: it speaks as the agent does, its keys are real, its TPM is software.

use agent_core::http::emit::{Asking, Media, Verb, request_head};
use agent_core::wire::push::{
    Authentication, Capabilities, Chosen, Evidence, Opened, Proof, SessionRequest, Token,
};
use agent_core::wire::quote::{ClockInfo, Digest, HashAlg, PcrDump, PcrMask, PcrValues, SignAlg};
use agent_core::wire::register::{Activation, Registration};
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::byhand::enrolment;
use hw_tests::raw::{Client, Credential, Reply, Session};
use hw_tests::servers::{VERIFIER_PORT, Verifier};
use serde_json::json;
use verifier_host::evidence::software::{SoftwareTpm, attest};

/// A registered node with a token, and the connection on which it calls.
pub(crate) struct Caller {
    uuid: Uuid,
    tpm: SoftwareTpm,
    clock: ClockInfo,
    host: String,
    wire: Session,
    token: Token,
    capabilities: String,
}

impl Caller {
    /// Registers, is added with a policy for PCR 0, and opens a session.
    ///
    /// # Errors
    /// A server refuses that.
    pub(crate) fn enrol(verifier: &Verifier<'_>, number: usize) -> Result<Self> {
        let uuid = Uuid::parse(&format!("caller-{number}")).ok_or("no uuid")?;
        let tpm = SoftwareTpm::new();
        register(verifier, &uuid, &tpm)?;
        add(verifier, &uuid)?;
        let address = verifier.address();
        let host = format!("{address}:{VERIFIER_PORT}");
        let mut wire = Client::tls(address, VERIFIER_PORT, Credential::none())?.connect()?;
        let token = open_session(&mut wire, &host, &uuid, &tpm)?;
        let ak = tpm.ak();
        let name = ak.name().as_bytes().try_into()?;
        let mut capabilities = String::new();
        Capabilities {
            ak_public: ak.marshalled(),
            ak_name: &name,
            sign: SignAlg::Ecdsa,
            hash: HashAlg::Sha256,
            boot_time: 1_800_000_000,
        }
        .write(&mut capabilities)?;
        Ok(Self {
            uuid,
            tpm,
            clock: ClockInfo {
                clock_ms: 1000,
                reset_count: 5,
                restart_count: 0,
                safe: true,
            },
            host,
            wire,
            token,
            capabilities,
        })
    }

    /// Who it is.
    pub(crate) fn uuid(&self) -> &str {
        self.uuid.as_str()
    }

    /// Asks what to show, and doesn't wait for the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn ask(&mut self) -> Result {
        let path = format!("/v3.0/agents/{}/attestations", self.uuid);
        let message = request(
            &self.host,
            Verb::Post,
            &path,
            Some(&self.token),
            &self.capabilities,
        )?;
        self.wire.write(message.as_bytes())
    }

    /// Reads what to show, and shows it; doesn't wait for the answer.
    ///
    /// # Errors
    /// The verifier refuses, or the connection broke.
    pub(crate) fn show(&mut self) -> Result {
        let reply = must_be(201, self.wire.reply()?)?;
        let chosen = Chosen::from_answer(reply.field("location"), reply.body.as_bytes())?;
        self.clock.clock_ms += 1;
        let dump = at_zero(chosen.pcrs)?;
        let message = attest(&chosen.challenge, &dump, HashAlg::Sha256, self.clock);
        let mut body = String::new();
        Evidence {
            message: &message,
            signature: &self.tpm.signature(&message),
            dump: &dump,
        }
        .write(&mut body)?;
        let path = format!(
            "/v3.0/agents/{}/attestations/{}",
            self.uuid, chosen.attestation
        );
        let message = request(&self.host, Verb::Patch, &path, Some(&self.token), &body)?;
        self.wire.write(message.as_bytes())
    }

    /// Reads that the evidence was taken.
    ///
    /// # Errors
    /// The verifier refuses, or the connection broke.
    pub(crate) fn done(&mut self) -> Result {
        must_be(202, self.wire.reply()?).map(drop)
    }
}

fn register(verifier: &Verifier<'_>, uuid: &Uuid, tpm: &SoftwareTpm) -> Result {
    let registrar = verifier.agents_port();
    let path = format!("/v2.6/agents/{uuid}");
    let (ek, ak) = (tpm.ek(), tpm.ak());
    let mut body = String::new();
    Registration {
        ak_public: ak.marshalled(),
        ek_public: ek.marshalled(),
        ek_certificate: None,
        ip: "127.0.0.1",
        port: 9002,
        tls_certificate: "disabled",
    }
    .write(&mut body)?;
    let body = serde_json::from_str(&body)?;
    let results = registrar.send("POST", &path, Some(&body))?.results()?;
    let blob = BASE64.decode(results["blob"].as_str().ok_or("no blob")?)?;
    let mut body = String::new();
    Activation::new(&tpm.activate(&blob), uuid).write(&mut body)?;
    let body = serde_json::from_str(&body)?;
    registrar
        .send("PUT", &path, Some(&body))?
        .results()
        .map(drop)
}

fn add(verifier: &Verifier<'_>, uuid: &Uuid) -> Result {
    let path = format!("/v2.6/agents/{uuid}");
    let record = verifier.registrar_client()?.get(&path)?.results()?;
    let policy = json!({ "0": ["0".repeat(64)] }).to_string();
    let body = enrolment(&record, &policy, None);
    let client = verifier.client()?;
    client.send("POST", &path, Some(&body))?.results().map(drop)
}

fn open_session(wire: &mut Session, host: &str, uuid: &Uuid, tpm: &SoftwareTpm) -> Result<Token> {
    let mut body = String::new();
    SessionRequest { agent: uuid }.write(&mut body)?;
    wire.write(request(host, Verb::Post, "/v3.0/sessions", None, &body)?.as_bytes())?;
    let opened = Opened::from_answer(must_be(200, wire.reply()?)?.body.as_bytes())?;
    let message = tpm.certify(&opened.challenge);
    let mut body = String::new();
    Proof {
        agent: uuid,
        session: &opened.session,
        message: &message,
        signature: &tpm.signature(&message),
    }
    .write(&mut body)?;
    let path = format!("/v3.0/sessions/{}", opened.session);
    wire.write(request(host, Verb::Patch, &path, None, &body)?.as_bytes())?;
    match Authentication::from_answer(must_be(200, wire.reply()?)?.body.as_bytes())? {
        Authentication::Token(token) => Ok(token),
        Authentication::Failed(code) => Err(format!("no token: {code:?}").into()),
    }
}

/// Values of PCRs that nothing was measured into.
fn at_zero(pcrs: PcrMask) -> Result<PcrDump> {
    let zeros = Digest::from_slice(&[0; 32]).map_err(|_| "a digest's size")?;
    let mut values = PcrValues::new();
    for pcr in pcrs.iter() {
        values
            .push((pcr, zeros.clone()))
            .map_err(|_| "too many PCRs")?;
    }
    PcrDump::new(HashAlg::Sha256, values).map_err(|error| format!("{error:?}").into())
}

fn request(
    host: &str,
    verb: Verb,
    path: &str,
    token: Option<&Token>,
    body: &str,
) -> Result<String> {
    let mut message = String::new();
    let asking = Asking {
        verb,
        path,
        host,
        token: token.map(Token::as_str),
        media: Media::JsonApi,
        from: 0,
        length: body.len(),
    };
    request_head(&mut message, &asking)?;
    message.push_str(body);
    Ok(message)
}

fn must_be(status: u16, reply: Reply) -> Result<Reply> {
    if reply.status == status {
        Ok(reply)
    } else {
        Err(format!(
            "status {} instead of {status}: {}",
            reply.status, reply.body
        )
        .into())
    }
}
