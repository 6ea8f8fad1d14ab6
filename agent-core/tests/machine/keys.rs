//! Halves, payloads and key checks, as they come over the wire in every order.

use crate::bench::{Bench, Delivery, MAX_SEALED, UUID, post};
use agent_core::agent::{MAX_ANSWER_BYTES, Note, Peer, Plan, Request};
use agent_core::drive::{Served, Shell};
use agent_core::http::Status;
use agent_core::http::head::RequestHead;
use agent_core::payload::seal::OVERHEAD_BYTES;
use agent_core::wire::form::UKeyForm;

/// A delivery that must work, whatever came before it.
#[track_caller]
fn next_good_add_works(bench: &Bench) {
    let next = Delivery::new(200);
    assert_eq!(bench.ukey(&next).status, 200);
    assert_eq!(bench.vkey(&next).status, 200);
    assert!(bench.verifies(&next));
    assert_eq!(bench.opened().last(), next.payload.as_ref());
    bench.work();
    assert_eq!(bench.stage(), "finished");
}

#[test]
fn a_payload_opens_when_both_halves_are_there() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    assert_eq!(bench.stage(), "waiting");
    assert_eq!(
        bench.ukey(&delivery).body,
        r#"{"code":200,"status":"Success","results":null}"#
    );
    assert_eq!(bench.stage(), "received");
    assert!(bench.opened().is_empty());
    assert_eq!(
        bench.vkey(&delivery).body,
        r#"{"code":200,"status":"Success","results":null}"#
    );
    assert_eq!(bench.stage(), "opened");
    assert!(bench.verifies(&delivery));
    assert_eq!(bench.opened(), [delivery.payload.clone().unwrap()]);
    let number = bench.duties.borrow()[0].number();
    bench.with_agent(|agent, _| agent.unpacked(number));
    assert_eq!(bench.stage(), "unpacked");
    bench.work();
    assert_eq!(bench.stage(), "finished");
    assert_eq!(bench.vaults.get(), 0);
}

#[test]
fn v_may_come_first() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    assert_eq!(bench.vkey(&delivery).status, 200);
    assert_eq!(bench.ukey(&delivery).status, 200);
    assert_eq!(bench.opened(), [delivery.payload.unwrap()]);
}

#[test]
fn v_without_u_opens_nothing() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    for _ in 0..3 {
        assert_eq!(bench.vkey(&delivery).status, 200);
        assert!(!bench.verifies(&delivery));
        assert_eq!(bench.stage(), "waiting");
    }
    next_good_add_works(&bench);
}

#[test]
fn u_twice_opens_once() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    bench.ukey(&delivery);
    assert_eq!(bench.ukey(&delivery).status, 200);
    assert!(bench.notes.borrow().contains(&Note::ULost));
    bench.vkey(&delivery);
    assert_eq!(bench.opened().len(), 1);
    bench.work();
    next_good_add_works(&bench);
}

#[test]
fn u_of_one_payload_with_v_of_another_opens_nothing() {
    let bench = Bench::new();
    let (one, two) = (Delivery::new(1), Delivery::new(2));
    assert_eq!(bench.ukey(&one).status, 200);
    assert_eq!(bench.vkey(&two).status, 200);
    assert!(bench.notes.borrow().contains(&Note::HalvesApart));
    assert!(bench.opened().is_empty());
    assert!(!bench.verifies(&one) && !bench.verifies(&two));
    // Both wait: the half that fits makes the key.
    assert_eq!(bench.ukey(&two).status, 200);
    assert_eq!(bench.opened(), [two.payload.unwrap()]);
}

#[test]
fn verify_answers_for_this_payload_only() {
    let bench = Bench::new();
    let (one, two) = (Delivery::new(1), Delivery::new(2));
    bench.ukey(&one);
    assert_eq!(bench.get("/v2.6/keys/verify?challenge=abc").status, 400);
    bench.vkey(&one);
    bench.work();
    assert!(bench.verifies(&one));
    // A new U is a new payload: its tenant must not hear of the old one's key.
    bench.ukey(&two);
    assert_eq!(bench.get("/v2.6/keys/verify?challenge=abc").status, 400);
    // The old V, sent again by the verifier, doesn't bring the old key back.
    bench.vkey(&one);
    assert_eq!(bench.get("/v2.6/keys/verify?challenge=abc").status, 400);
    bench.vkey(&two);
    assert!(bench.verifies(&two));
}

#[test]
fn v_again_changes_nothing() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    bench.ukey(&delivery);
    bench.vkey(&delivery);
    bench.work();
    assert_eq!(bench.vkey(&delivery).status, 200);
    assert!(bench.verifies(&delivery));
    assert_eq!(bench.stage(), "finished");
    assert!(bench.opened().is_empty());
}

#[test]
fn readd_with_payload() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    for _ in 0..3 {
        bench.ukey(&delivery);
        bench.vkey(&delivery);
        assert_eq!(bench.opened(), [delivery.payload.clone().unwrap()]);
        bench.work();
    }
}

#[test]
fn a_key_without_payload() {
    let bench = Bench::new();
    let delivery = Delivery {
        payload: None,
        ..Delivery::new(1)
    };
    bench.ukey(&delivery);
    assert_eq!(bench.stage(), "received");
    bench.vkey(&delivery);
    assert!(bench.verifies(&delivery));
    assert_eq!(bench.stage(), "finished");
    assert!(bench.opened().is_empty());
}

#[test]
fn ukey_flood_is_bounded() {
    let bench = Bench::new();
    for n in 0..=255 {
        assert_eq!(bench.ukey(&Delivery::new(n)).status, 200);
        assert_eq!(bench.vaults.get(), 1);
    }
    // One that waits and one that arrives.
    assert_eq!(bench.most_vaults.get(), 2);
    let last = Delivery::new(255);
    bench.vkey(&last);
    assert_eq!(bench.opened(), [last.payload.unwrap()]);
}

#[test]
fn one_limit_stated_once() {
    let told = Bench::new().get("/v2.6/agent/info");
    assert!(
        told.body
            .contains(&format!(r#""max_sealed_bytes":{MAX_SEALED}"#))
    );
    // The limit counts sealed bytes, whatever base64 and JSON add to them.
    for (sealed, status) in [
        (MAX_SEALED - 1, 200),
        (MAX_SEALED, 200),
        (MAX_SEALED + 1, 413),
    ] {
        let bench = Bench::new();
        let delivery = Delivery {
            payload: Some(vec![b'x'; sealed - OVERHEAD_BYTES]),
            ..Delivery::new(1)
        };
        assert_eq!(delivery.sealed().len(), sealed);
        assert_eq!(bench.ukey(&delivery).status, status, "{sealed} bytes");
        if status == 200 {
            bench.vkey(&delivery);
            assert_eq!(bench.opened(), [delivery.payload.unwrap()]);
        }
    }
}

#[test]
fn a_new_payload_waits_for_the_work_on_the_old_one() {
    let bench = Bench::new();
    let (one, two) = (Delivery::new(1), Delivery::new(2));
    bench.ukey(&one);
    bench.vkey(&one);
    let refused = bench.ukey(&two);
    assert_eq!(refused.status, 500);
    assert!(bench.verifies(&one));
    assert_eq!(bench.stage(), "opened");
    bench.work();
    next_good_add_works(&bench);
}

#[test]
fn a_second_upload_at_once_is_refused() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    let head = "POST /v2.6/keys/ukey HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
    let plan = bench.with_agent(|agent, _| {
        let (head, _) = RequestHead::parse(head.as_bytes()).unwrap().unwrap();
        agent.plan(&head, Peer::Tenant)
    });
    let Plan::UKey(lease) = plan else {
        panic!("{plan:?}")
    };
    assert_eq!(bench.ukey(&delivery).status, 500);
    bench.with_agent(|agent, _| agent.give_up(lease));
    next_good_add_works(&bench);
}

#[test]
fn an_upload_that_ends_while_an_older_payload_is_opened_is_refused() {
    let bench = Bench::new();
    let (one, two) = (Delivery::new(1), Delivery::new(2));
    bench.ukey(&one);
    let body = bench.ukey_body(&two);
    let head = post("/v2.6/keys/ukey", &body).replace(&body, "");
    let plan = bench.with_agent(|agent, _| {
        let (head, _) = RequestHead::parse(head.as_bytes()).unwrap().unwrap();
        agent.plan(&head, Peer::Tenant)
    });
    let Plan::UKey(lease) = plan else {
        panic!("{plan:?}")
    };
    let mut form = UKeyForm::new(bench.vault(lease.vault_bytes()).unwrap());
    form.feed(body.as_bytes()).unwrap();
    bench.vkey(&one);
    let mut answer = heapless::String::<MAX_ANSWER_BYTES>::new();
    let request = Request::UKey(lease, form.finish().unwrap());
    let outcome = bench.with_agent(|agent, tpm| agent.finish(request, tpm, &bench, &mut answer));
    assert_eq!(outcome.status, Status::InternalError);
    assert!(bench.verifies(&one));
    assert_eq!(bench.stage(), "opened");
    bench.work();
    next_good_add_works(&bench);
}

#[test]
fn tampered_payload_is_reported() {
    let delivery = Delivery::new(1);
    for at in [0, 15, 16, delivery.sealed().len() - 1] {
        let bench = Bench::new();
        let mut sealed = delivery.sealed();
        sealed[at] ^= 1;
        let right = bench.ukey_body(&delivery);
        let body = right.replace(&base64(&delivery.sealed()), &base64(&sealed));
        assert_ne!(body, right);
        assert_eq!(bench.post("/v2.6/keys/ukey", &body).status, 200);
        assert_eq!(bench.vkey(&delivery).status, 200);
        assert!(bench.opened().is_empty());
        assert_eq!(bench.stage(), "failed");
        assert!(bench.notes.borrow().contains(&Note::SealBroken));
        assert_eq!(bench.vaults.get(), 0);
        next_good_add_works(&bench);
    }
}

#[test]
fn bad_bodies_leave_everything_as_it_was() {
    let bench = Bench::new();
    let waiting = Delivery::new(1);
    bench.ukey(&waiting);
    let right = bench.ukey_body(&Delivery::new(2));
    let foreign = base64(b"not for this TPM");
    let long_half = base64(&bench.tpm(|tpm| tpm.encrypt(&[1; 31])));
    let too_large = base64(&[0; MAX_SEALED + 1]);
    let far_too_large = base64(&[0; MAX_SEALED + 4096]);
    let tag = "00".repeat(48);
    let cases = [
        ("empty", String::new(), 400),
        ("no object", "[]".to_owned(), 400),
        ("cut object", right[..right.len() - 1].to_owned(), 400),
        ("more than an object", format!("{right}x"), 400),
        ("no tag", format!(r#"{{"encrypted_key":"{foreign}"}}"#), 400),
        (
            "short tag",
            format!(r#"{{"encrypted_key":"{foreign}","auth_tag":"00"}}"#),
            400,
        ),
        (
            "foreign key",
            format!(r#"{{"encrypted_key":"{foreign}","auth_tag":"{tag}"}}"#),
            400,
        ),
        (
            "odd key",
            format!(r#"{{"encrypted_key":"{long_half}","auth_tag":"{tag}"}}"#),
            400,
        ),
        (
            "no base64",
            right.replace("\"payload\":\"", "\"payload\":\"*"),
            400,
        ),
        ("too large", format!(r#"{{"payload":"{too_large}"}}"#), 413),
        (
            "far too large",
            format!(r#"{{"payload":"{far_too_large}"}}"#),
            413,
        ),
    ];
    for (name, body, status) in cases {
        let answer = bench.post("/v2.6/keys/ukey", &body);
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        assert_eq!(bench.stage(), "received", "{name}");
        assert_eq!(bench.vaults.get(), 1, "{name}");
    }
    for body in ["", "{}", r#"{"encrypted_key":"*"}"#] {
        assert_eq!(bench.post("/v2.6/keys/vkey", body).status, 400);
    }
    // What waited still does.
    bench.vkey(&waiting);
    assert_eq!(bench.opened(), [waiting.payload.unwrap()]);
}

#[test]
fn truncated_requests_leave_everything_as_it_was() {
    let bench = Bench::new();
    let waiting = Delivery::new(1);
    bench.ukey(&waiting);
    let request = post("/v2.6/keys/ukey", &bench.ukey_body(&Delivery::new(2)));
    for length in 0..request.len() {
        let (answers, served) = bench.connection(&request.as_bytes()[..length]);
        assert_eq!(
            (answers.len(), served),
            (0, Served::Gone),
            "cut to {length}"
        );
        assert_eq!(bench.vaults.get(), 1);
    }
    bench.vkey(&waiting);
    assert_eq!(bench.opened(), [waiting.payload.unwrap()]);
}

#[test]
fn pieces_of_any_size_make_the_same_request() {
    for piece in [1, 2, 3, 7, 64] {
        let bench = Bench::new();
        let delivery = Delivery::new(1);
        let request = post("/v2.6/keys/ukey", &bench.ukey_body(&delivery));
        let (answers, _) = bench.connection_of(Peer::Tenant, request.as_bytes(), piece);
        assert_eq!(answers[0].status, 200);
        bench.vkey(&delivery);
        assert_eq!(bench.opened(), [delivery.payload.unwrap()]);
    }
}

#[test]
fn only_the_tenant_delivers() {
    let bench = Bench::new();
    let request = post("/v2.6/keys/ukey", &bench.ukey_body(&Delivery::new(1)));
    let (answers, served) = bench.connection_of(Peer::Other, request.as_bytes(), usize::MAX);
    assert_eq!((answers[0].status, served), (403, Served::CloseUnread));
    assert_eq!(bench.stage(), "waiting");
}

#[test]
fn a_key_and_its_half_appear_in_no_answer() {
    let bench = Bench::new();
    let delivery = Delivery::new(1);
    let mut said = bench.ukey(&delivery).body;
    said += &bench.vkey(&delivery).body;
    said += &bench.get("/v2.6/payload/outcome").body;
    said += &bench.get("/v2.6/keys/verify?challenge=abc").body;
    for secret in [delivery.u, delivery.v, delivery.u ^ delivery.v] {
        let bytes = [secret; 32];
        assert!(!said.contains(&base64(&bytes)));
        assert!(!said.contains(&format!("{secret:02x}").repeat(32)));
    }
    assert!(said.contains("sealed_sha256") && !UUID.is_empty());
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
