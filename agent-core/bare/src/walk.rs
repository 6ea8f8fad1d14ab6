//! The way through agent-core's public API, with a real payload.

mod calling;
mod files;
mod logs;
mod revocations;
mod segments;

use agent_core::agent::{Clipped, Peer, Plan, ScriptEnd, ScriptReport};
use agent_core::drive::{Call, Shell, call};
use agent_core::http::emit::{Media, Verb};
use agent_core::http::head::RequestHead;
use agent_core::payload::seal::{NONCE_BYTES, open_single, seal_single};
use agent_core::payload::zip::{Limits, UnpackError, is_archive, unpack};
use agent_core::secret::Secret;
use agent_core::tpm::Tpm;
use agent_core::wire::quote::{HashAlg, QuoteText, SignAlg};
use agent_core::wire::register::{Activation, CredentialBlob, Registration, version_from_answer};
use agent_core::wire::route::{ApiVersion, ApiVersions};
use agent_core::wire::text::{Hex, Uuid};
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use crate::world::{UUID, Wire, World, halves, put, text_of};
use files::Files;

/// One step: what it calls, and whether all was as it should be.
pub struct Step {
    pub name: &'static str,
    pub run: fn(&mut World<'_>) -> Option<()>,
}

const fn step(name: &'static str, run: fn(&mut World<'_>) -> Option<()>) -> Step {
    Step { name, run }
}

/// All steps, in their order.
pub const STEPS: &[Step] = &[
    step("serve_one: GET version", |world| world.get("/version", 200)),
    step("serve_one: GET agent/info", |world| {
        world.get("/v2.6/agent/info", 200)
    }),
    step("serve_one: GET quotes/identity", |world| {
        world.get("/v2.6/quotes/identity?nonce=abc", 200)
    }),
    step("serve_one: GET quotes/integrity", |world| {
        let target = "/v2.6/quotes/integrity?nonce=abc&mask=0xffffff&partial=0&ima_ml_entry=0";
        world.get(target, 200)
    }),
    step("QuoteText::parse", read_quote),
    step("serve_one: GET quotes/integrity with logs", logs::answer),
    step("serve_one: GET keys/pubkey", |world| {
        world.get("/v2.6/keys/pubkey", 200)
    }),
    step("serve_one: no such route", |world| {
        world.get("/v2.6/x", 404)
    }),
    step("serve_one: no key yet", |world| {
        world.get("/v2.6/keys/verify?challenge=abc", 400)
    }),
    step("seal_single", seal),
    step("open_single", open),
    step("serve_one: POST keys/ukey, tampered", |world| {
        send_u(world, |sealed| {
            sealed.iter_mut().for_each(|byte| *byte ^= 1);
        })
    }),
    step("serve_one: POST keys/vkey, tampered", send_v),
    step("serve_one: GET payload/outcome, failed", |world| {
        world.get("/v2.6/payload/outcome", 200)?;
        (world.answered("stage") == Some("failed") && world.node.opened().is_none()).then_some(())
    }),
    step("serve_one: POST keys/ukey", |world| send_u(world, |_| ())),
    step("serve_one: POST keys/vkey", send_v),
    step("serve_one: GET keys/verify", |world| {
        world.get("/v2.6/keys/verify?challenge=abc", 200)?;
        let mut want = heapless::String::<96>::new();
        put(&mut want, Hex(&halves()?.2.auth_tag(b"abc")))?;
        (world.answered("hmac") == Some(want.as_str())).then_some(())
    }),
    step("unpack", unpack_opened),
    step("unpack, another name beside the content", unpack_renamed),
    step("segment::seal", segments::seal),
    step("unpack_pieces", segments::unpack),
    step("unpack_pieces, tampered", segments::unpack_tampered),
    step("serve_one: GET payload/outcome", |world| {
        world.get("/v2.6/payload/outcome", 200)?;
        (world.answered("stage") == Some("finished")).then_some(())
    }),
    step("serve_one: POST notifications/revocation", |world| {
        put(&mut world.body, r#"{"msg":"{}","signature":"Z29vZA=="}"#)?;
        world.post("/v2.6/notifications/revocation", 200)?;
        (world.node.notices.get() == 1).then_some(())
    }),
    step(
        "serve_one: POST notifications/revocation, forged",
        |world| {
            put(&mut world.body, r#"{"msg":"{}","signature":"YmFk"}"#)?;
            world.post("/v2.6/notifications/revocation", 400)
        },
    ),
    step("listed_actions, check_action_name", revocations::list),
    step("LogHead::read, Ledger::land", revocations::land),
    step(
        "serve_one: POST notifications/revocation, entries",
        revocations::notify,
    ),
    step("serve_one: GET revocations/outcomes", revocations::tell),
    step("Delivered::each, hear", revocations::catch_up),
    step(
        "Message::read, Outbound::caught_up",
        revocations::small_things,
    ),
    step("RequestHead::parse, Agent::plan", plan),
    step("Registration::write", register),
    step("call", call_registrar),
    step("CredentialBlob::from_answer", take_credential),
    step("version_from_answer", choose_version),
    step("Outbound::fall_back", calling::refuse_a_copy),
    step(
        "Outbound::next, Outbound::answered",
        calling::refuse_a_stranger,
    ),
    step("call_with_logs", logs::call),
    step("download", calling::fetch),
    step(
        "Value::parse, Manifest::parse, Receipt::parse",
        calling::read,
    ),
    step("OutboundTpm::keep, name_of", calling::keep),
    step("names, texts, secrets", small_things),
];

fn read_quote(world: &mut World<'_>) -> Option<()> {
    let quote = QuoteText::parse(text_of(&world.got, "quote")?, &mut world.quote).ok()?;
    let is_right = quote.attest.extra_data == b"abc"
        && quote.dump.digest(HashAlg::Sha256) == quote.attest.pcr_digest
        && (quote.dump.bank(), quote.dump.values().len()) == (HashAlg::Sha256, 24)
        && quote.dump.value(16).is_some_and(|value| value.len() == 32)
        && (quote.signature.scheme(), quote.signature.hash()) == (SignAlg::Ecdsa, HashAlg::Sha256);
    is_right.then_some(())
}

fn seal(world: &mut World<'_>) -> Option<()> {
    let (_, _, key) = halves()?;
    let sealed = &mut world.sealed;
    sealed.clear();
    sealed.extend_from_slice(&[7; NONCE_BYTES]).ok()?;
    sealed.extend_from_slice(files::ARCHIVE).ok()?;
    let tag = seal_single(&key, &[7; NONCE_BYTES], sealed.get_mut(NONCE_BYTES..)?).ok()?;
    sealed.extend_from_slice(&tag).ok()
}

fn open(world: &mut World<'_>) -> Option<()> {
    let (u, v, _) = halves()?;
    let key = u.combine(&v).ok()?;
    let opened = open_single(&key, &mut world.sealed).ok()?;
    let is_right = opened == files::ARCHIVE && is_archive(opened);
    seal(world)?;
    is_right.then_some(())
}

fn send_u(world: &mut World<'_>, change: fn(&mut [u8])) -> Option<()> {
    let (u, _, key) = halves()?;
    change(world.sealed.get_mut(NONCE_BYTES..)?);
    let ciphertext = world.node.with_agent(|_, tpm| tpm.encrypt(u.as_bytes()));
    let (u, payload) = (
        Base64Display::new(&ciphertext, &STANDARD),
        Base64Display::new(&world.sealed, &STANDARD),
    );
    let tag = key.auth_tag(UUID.as_bytes());
    let auth_tag = Hex(&tag);
    let body =
        format_args!(r#"{{"encrypted_key":"{u}","auth_tag":"{auth_tag}","payload":"{payload}"}}"#);
    put(&mut world.body, body)?;
    change(world.sealed.get_mut(NONCE_BYTES..)?);
    world.post("/v2.6/keys/ukey", 200)
}

fn send_v(world: &mut World<'_>) -> Option<()> {
    let (_, v, _) = halves()?;
    let ciphertext = world.node.with_agent(|_, tpm| tpm.encrypt(v.as_bytes()));
    let v = Base64Display::new(&ciphertext, &STANDARD);
    put(
        &mut world.body,
        format_args!(r#"{{"encrypted_key":"{v}"}}"#),
    )?;
    world.post("/v2.6/keys/vkey", 200)
}

fn unpack_opened(world: &mut World<'_>) -> Option<()> {
    let opened = world.node.opened()?;
    let number = opened.number();
    let mut files = Files::default();
    let limits = Limits::default();
    let summary = unpack(opened.plaintext(), &limits, &mut world.inflater, &mut files).ok()?;
    world.node.with_agent(|agent, _| {
        agent.unpacked(number);
        let report = ScriptReport {
            end: ScriptEnd::Exited { code: 0 },
            duration_ms: 1,
            output_tail: None,
        };
        agent.finished(number, Some(report));
        // It is finished: nothing is left to fail.
        agent.failed(number, "too late");
    });
    (files.are_all() && (summary.files, summary.directories) == (2, 1)).then_some(())
}

fn unpack_renamed(world: &mut World<'_>) -> Option<()> {
    let mut archive = heapless::Vec::<u8, 1024>::from_slice(files::ARCHIVE).ok()?;
    *archive.get_mut(LOCAL_HEADER_BYTES)? ^= 1;
    let mut files = Files::default();
    let limits = Limits::default();
    let error = unpack(&archive, &limits, &mut world.inflater, &mut files).err()?;
    put(&mut world.body, &error)?;
    match error {
        UnpackError::Entry { fault, .. } => (!fault.is_content()).then_some(()),
        _ => None,
    }
}

/// An entry's name follows it.
const LOCAL_HEADER_BYTES: usize = 30;

fn plan(world: &mut World<'_>) -> Option<()> {
    let head = b"POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    let (head, _) = RequestHead::parse(head).ok()??;
    world
        .node
        .with_agent(|agent, _| match agent.plan(&head, Peer::Tenant) {
            Plan::UKey(lease) => {
                agent.give_up(lease);
                Some(())
            }
            _ => None,
        })
}

fn register(world: &mut World<'_>) -> Option<()> {
    let body = &mut world.body;
    body.clear();
    world.node.with_agent(|_, tpm| {
        let identity = tpm.identity();
        let registration = Registration {
            ak_public: &identity.ak_public,
            ek_public: &identity.ek_public,
            ek_certificate: None,
            ip: "10.0.0.2",
            port: 9002,
            tls_certificate: "PEM",
        };
        registration.write(body).ok()
    })
}

fn call_registrar(world: &mut World<'_>) -> Option<()> {
    let mut sent = heapless::Vec::<u8, 4096>::new();
    let mut wire = Wire {
        coming: b"HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n{\"code\":200,\"results\":{\"blob\":\"utzA3gAAAAEAAQcAAggJ\"}}",
        got: &mut sent,
    };
    let request = Call {
        verb: Verb::Post,
        path: "/v2.6/agents/x",
        host: "registrar",
        token: None,
        media: Media::Json,
        body: &world.body,
    };
    world.got.resize_default(world.got.capacity()).ok()?;
    let answer = call(&mut wire, &request, &mut world.got).ok()?;
    let (status, body) = (answer.status, answer.body.len());
    (status == 200 && body == 51).then_some(())
}

fn take_credential(world: &mut World<'_>) -> Option<()> {
    let answer = br#"{"code":200,"status":"Success","results":{"blob":"utzA3gAAAAEAAQcAAggJ"}}"#;
    let blob = CredentialBlob::from_answer(answer, &mut world.blob).ok()?;
    let ciphertext = world.node.with_agent(|_, tpm| tpm.encrypt(&[5; 32]));
    let mut secret = heapless::Vec::<u8, 80>::new();
    secret.extend_from_slice(&[0, 32]).ok()?;
    secret.extend_from_slice(&ciphertext).ok()?;
    let activated = world
        .node
        .with_agent(|_, tpm| tpm.activate_credential(blob.id_object, &secret));
    let activated = activated.ok()?;
    let credential = activated.bytes.as_ref().get(..activated.len)?;
    world.body.clear();
    Activation::new(credential, &Uuid::parse(UUID)?)
        .write(&mut world.body)
        .ok()?;
    (blob.secret == [0, 2, 8, 9]).then_some(())
}

fn choose_version(_: &mut World<'_>) -> Option<()> {
    let answer =
        br#"{"results":{"current_version":"3.0","supported_versions":["2.1","2.3","3.0"]}}"#;
    let version = version_from_answer(answer, ApiVersions::all()).ok()?;
    (version == ApiVersion::parse("2.3")).then_some(())
}

fn small_things(world: &mut World<'_>) -> Option<()> {
    put(&mut world.body, Clipped::<4>::tail("a long text"))?;
    let secret = Secret::copy_of(&[1; 16]);
    let is_right = world.body == "text"
        && HashAlg::from_name("sha256") == Some(HashAlg::Sha256)
        && SignAlg::from_name("ecdsa") == Some(SignAlg::Ecdsa)
        && !secret.same_as(&[2; 16])
        && !world.buffers.has_input()
        && world.node.warnings.get() > 0;
    is_right.then_some(())
}
