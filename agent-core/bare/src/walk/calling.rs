//! The agent that calls its verifier, against answers that stand ready.

use agent_core::drive::{Download, Downloaded, download};
use agent_core::http::Answer;
use agent_core::http::head::After;
use agent_core::outbound::{End, Fault, Moment, NoCopy, Step, Verify, VerifyError};
use agent_core::secret::Secret;
use agent_core::tpm::{OutboundTpm, name_of};
use agent_core::wire::json::Value;
use agent_core::wire::manifest::Manifest;
use agent_core::wire::quote::{HashAlg, PcrMask};
use agent_core::wire::receipt::Receipt;

use crate::world::{Wire, World};

/// Whom nobody trusts.
struct Nobody;

impl Verify for Nobody {
    fn verify(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), VerifyError> {
        Err(VerifyError::Mismatch)
    }
}

/// A copy that is none is refused, and the verifier asked instead.
pub fn refuse_a_copy(world: &mut World<'_>) -> Option<()> {
    let random = Secret::zeroed();
    let moment = Moment {
        now: 0,
        dice: 0,
        random: &random,
        wall: Some(1),
    };
    let World {
        outbound,
        tpm,
        outgoing,
        ..
    } = world;
    let mut copy = [0; COPY_HEAD.len() + COPY_REST + COPY_BODY.len()];
    let bytes = COPY_HEAD.iter().chain(&[0; COPY_REST]).chain(COPY_BODY);
    copy.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    // SHA-256, by its number in the TPM.
    *copy.get_mut(COPY_HEAD.len().checked_add(17)?)? = 0x0B;
    let was_awaited = outbound.awaits_copy();
    outbound.fall_back(&moment, &copy, &Nobody, tpm);
    let is_refused = match outbound.next(&moment, tpm, outgoing) {
        Step::NoCopy(why) => why == NoCopy::Deposit(End::BadPayload(Fault::Signer)),
        _ => false,
    };
    let is_right = was_awaited
        && is_refused
        && !outbound.awaits_copy()
        && outbound.owed_forgetting().is_none();
    is_right.then_some(())
}

const COPY_HEAD: &[u8] = b"keyhalf/1 last good\0";
/// Times, bank, PCRs, deposit, manifest, tag, and the length of what the TPM sealed.
const COPY_REST: usize = 8 + 8 + 2 + 3 + 8 + 32 + 48 + 2;
const COPY_BODY: &[u8] =
    br#"{"payload_id":"0102030405060708","manifest":"e30=","signature":"AA==","signer":"AA==","u_blob":"AA=="}"#;

/// A deposit that is signed by a stranger is refused, and the refusal is reported.
pub fn refuse_a_stranger(world: &mut World<'_>) -> Option<()> {
    let random = Secret::zeroed();
    let mut answers = ANSWERS.iter();
    for now in 0..16 {
        let moment = Moment {
            now,
            dice: 0,
            random: &random,
            wall: None,
        };
        let World {
            outbound,
            tpm,
            outgoing,
            ..
        } = world;
        match outbound.next(&moment, tpm, outgoing) {
            Step::Send(_) => {
                let (status, body) = answers.next()?;
                let answer = Answer {
                    status: *status,
                    after: After::Keep,
                    retry_after: None,
                    location: None,
                    body: body.as_bytes(),
                };
                outbound.answered(&moment, Some(&answer), &Nobody, tpm);
            }
            Step::Done(end) => {
                let is_capped = outbound.cap(tpm).ok()?;
                let is_right = end == End::BadPayload(Fault::Signer) && !is_capped;
                return is_right.then_some(());
            }
            _ => return None,
        }
    }
    None
}

const ANSWERS: [(u16, &str); 4] = [
    (
        200,
        r#"{"data":{"id":"s","attributes":{"authentication_requested":[{"authentication_type":"tpm_pop","chosen_parameters":{"challenge":"AAECAwQFBgcICQoLDA0ODw=="}}]}}}"#,
    ),
    (
        200,
        r#"{"data":{"id":"s","attributes":{"evaluation":"pass","token":"t"}}}"#,
    ),
    (
        200,
        r#"{"payload_id":"0102030405060708","manifest":"e30=","signature":"AA==","signer":"AA==","u_blob":"AA=="}"#,
    ),
    (201, "{}"),
];

pub fn fetch(world: &mut World<'_>) -> Option<()> {
    let mut sent = heapless::Vec::<u8, 1024>::new();
    let mut wire = Wire {
        coming: b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 2-4/5\r\n\r\nabc",
        got: &mut sent,
    };
    let wanted = Download {
        path: "/sealed",
        host: "verifier",
        token: Some("t"),
        from: 2,
        whole: 5,
    };
    world.got.resize_default(world.got.capacity()).ok()?;
    let mut came = 0usize;
    let done = download(&mut wire, &wanted, &mut world.got, |piece| {
        came = came.saturating_add(piece.len());
        Ok::<(), ()>(())
    });
    (done.ok()? == Downloaded::Whole(After::Keep) && came == 3).then_some(())
}

pub fn read(_: &mut World<'_>) -> Option<()> {
    let root = Value::parse(br#"{"a":[{"b":1}]}"#).ok()?;
    let number = root.member("a")?.items().next()?.member("b")?.number();
    let is_right = number == Some(1)
        && Manifest::parse(b"{}").is_err()
        && Receipt::parse(b"{}").is_err()
        && Receipt::reason("a \"b\"").as_str() == "a 'b'";
    is_right.then_some(())
}

pub fn keep(world: &mut World<'_>) -> Option<()> {
    let (bank, pcrs) = (HashAlg::Sha256, PcrMask::EMPTY.with(15));
    let mut kept = [0; 128];
    let length = world
        .tpm
        .keep(bank, pcrs, &Secret::copy_of(&[7; 32]), &mut kept)
        .ok()?;
    let recalled = world.tpm.recall(bank, pcrs, kept.get(..length)?).ok()?;
    (recalled.same_as(&[7; 32]) && name_of(&[0, 1, 2]).starts_with(&[0, 0x0B])).then_some(())
}
