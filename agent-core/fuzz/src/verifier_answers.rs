//! What a verifier answers to an agent that calls: read as another JSON reader reads it, and never deeper than it may be.

use agent_core::payload::release::WRAPPED_V_BYTES;
use agent_core::wire::json::{DocumentError, Value};
use agent_core::wire::push::{
    Accepted, Authentication, Chosen, Deposit, DepositBuffer, Failure, MAX_TOKEN_BYTES, Opened,
    Verdict, released_from_answer,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Reference;

/// The bytes are an answer's body.
pub fn check(body: &[u8]) {
    let ours = Value::parse(body);
    let reference = serde_json::from_slice::<Reference>(body);
    check_syntax(body, ours.map(drop), reference.is_ok());
    let _ = Accepted::from_answer(body);
    let failure = Failure::from_answer(500, body);
    assert!(
        failure
            .detail
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~'))
    );
    let opened = Opened::from_answer(body);
    let chosen = Chosen::from_answer(None, body);
    let authentication = Authentication::from_answer(body);
    let _ = Verdict::from_answer(body);
    let mut buffer = DepositBuffer::default();
    let deposit = Deposit::from_answer(body, &mut buffer);
    let released = released_from_answer::<WRAPPED_V_BYTES>(body);
    // Names are not unescaped, and a member that comes twice is none of ours.
    let Some(reference) = reference.ok().filter(|_| !body.contains(&b'\\')) else {
        return;
    };
    let (data, attributes) = (&reference["data"], &reference["data"]["attributes"]);
    let decoded = |value: &Reference| STANDARD.decode(value.as_str().unwrap()).unwrap();
    if let Ok(opened) = opened {
        assert_eq!(data["id"].as_str(), Some(opened.session.as_str()));
        assert!(!opened.challenge.is_empty());
    }
    if let Ok(Authentication::Token(token)) = authentication {
        assert_eq!(attributes["token"].as_str(), Some(token.as_str()));
        assert_eq!(attributes["evaluation"], "pass");
        assert!(token.as_str().len() <= MAX_TOKEN_BYTES);
    }
    if let Ok(chosen) = chosen {
        let parameters = &attributes["evidence_requested"][0]["chosen_parameters"];
        assert_eq!(
            decoded(&parameters["challenge"]),
            chosen.challenge.as_slice()
        );
        let pcrs = parameters["selected_subjects"][chosen.bank.name()].as_array();
        let listed = pcrs.into_iter().flatten();
        assert!(
            listed
                .map(|pcr| u8::try_from(pcr.as_u64().unwrap()).unwrap())
                .all(|pcr| chosen.pcrs.contains(pcr))
        );
    }
    if let Ok(deposit) = deposit {
        assert_eq!(decoded(&reference["manifest"]), deposit.manifest);
        assert_eq!(decoded(&reference["u_blob"]), deposit.u_blob);
    }
    if let Ok((id, v)) = released {
        let named = reference["payload_id"].as_str().unwrap();
        assert!(named.eq_ignore_ascii_case(&id.to_string()));
        assert_eq!(decoded(&reference["v"]), v);
    }
}

/// What the other reader takes is taken, unless it is too deep; and the other way round as far as they mean the same: the
/// other reader unescapes, and makes numbers of numbers.
fn check_syntax(body: &[u8], ours: Result<(), DocumentError>, theirs: bool) {
    if theirs {
        assert!(
            matches!(ours, Ok(()) | Err(DocumentError::Depth)),
            "{ours:?}"
        );
    }
    let means_more = |byte: &u8| matches!(byte, b'\\' | b'e' | b'E');
    if ours.is_ok() && body.len() < 300 && !body.iter().any(means_more) {
        assert!(theirs);
    }
}
