//! What registrars and verifiers answer, and what a tenant deposits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{UUID, save, with_first};

pub(super) fn verifier() -> std::io::Result<()> {
    // As Keylime's verifier in push mode and ours answer.
    let blob = STANDARD.encode([7; 40]);
    let wrapped = STANDARD.encode([7; 80]);
    let rows = [
        (
            "session",
            r#"{"data": {"type": "session", "id": "2a5b", "attributes": {"agent_id": "a", "authentication_requested": [{"authentication_class": "pop", "authentication_type": "tpm_pop", "chosen_parameters": {"challenge": "AAECAwQFBgcICQoLDA0ODw=="}}], "created_at": "2026-01-01T00:00:00+00:00", "challenges_expire_at": "2026-01-01T00:01:00+00:00"}}}"#.to_owned(),
        ),
        (
            "token",
            r#"{"data": {"type": "session", "id": "2a5b", "attributes": {"agent_id": "a", "evaluation": "pass", "token": "2a5b.QUJD_-x", "authentication": [{"data": {"message": "/1RDRw==", "signature": "ABgACw=="}}], "token_expires_at": null}}}"#.to_owned(),
        ),
        (
            "not-enrolled",
            r#"{"data":{"id":"s","attributes":{"evaluation":"fail","failure_code":"not-enrolled"}}}"#.to_owned(),
        ),
        (
            "chosen",
            r#"{"data": {"type": "attestation", "attributes": {"stage": "awaiting_evidence", "evidence_requested": [{"evidence_class": "certification", "evidence_type": "tpm_quote", "chosen_parameters": {"signature_scheme": "rsassa", "challenge": "AAECAwQFBgcICQoLDA0ODw==", "hash_algorithm": "sha256", "selected_subjects": {"sha256": [0, 15, 16]}, "certification_key": {"key_size": 2048}}}]}, "links": {"self": "/v3.0/agents/a/attestations/0"}}}"#.to_owned(),
        ),
        (
            "taken",
            r#"{"data": {"attributes": {"stage": "evaluating_evidence"}}, "meta": {"seconds_to_next_attestation": 60}}"#.to_owned(),
        ),
        (
            "verdict",
            r#"{"data":{"attributes":{"evaluation":"fail","failure_reason":"PCR 0"}}}"#.to_owned(),
        ),
        (
            "error",
            r#"{"errors":[{"status":"403","code":"capped","title":"Forbidden","detail":"PCR 15"}]}"#.to_owned(),
        ),
        (
            "deposit",
            format!(r#"{{"payload_id":"0102030405060708","manifest":"{blob}","signature":"{blob}","signer":"{blob}","u_blob":"{blob}"}}"#),
        ),
        (
            "release",
            format!(r#"{{"payload_id":"0102030405060708","v":"{wrapped}"}}"#),
        ),
        ("deep", ["[".repeat(40), "]".repeat(40)].concat()),
    ];
    rows.iter()
        .try_for_each(|(name, body)| save("verifier_answers", name, body))
}

pub(super) fn deposits() -> std::io::Result<()> {
    let (hash, name, tag) = (
        "01".repeat(32),
        "000b".to_owned() + &"02".repeat(32),
        "03".repeat(48),
    );
    let manifest = format!(
        r#"{{"format":1,"agent":"{UUID}","ek_name":"{name}","ak_name":"{name}","payload_id":"0102030405060708","floor":3,"sealed_sha256":"{hash}","sealed_bytes":1000,"auth_tag":"{tag}","u_blob_sha256":"{hash}","policy_sha256":"{hash}","cap_pcr":15,"cap_bank":"sha256","cap_values":["{hash}"],"deliver":"until","until":1900000000,"script":"autorun.sh","sealed_at":1800000000,"last_good_seconds":null}}"#
    );
    let receipt = format!(
        r#"{{"format":1,"agent":"{UUID}","payload_id":"0102030405060708","stage":"finished","exit_code":0,"signal":null,"timed_out":false,"duration_ms":12,"error":null}}"#
    );
    let rows = [("manifest", manifest), ("receipt", receipt)];
    rows.iter()
        .try_for_each(|(name, text)| save("manifest_receipt", name, text))
}

pub(super) fn registrar() -> std::io::Result<()> {
    let blob = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1, 0, 1, 7, 0, 2, 8, 9];
    let body = format!(
        r#"{{"code": 200, "status": "Success", "results": {{"blob": "{}"}}}}"#,
        STANDARD.encode(blob)
    );
    let versions = r#"{"code":200,"status":"Success","results":{"current_version":"2.6","supported_versions":["1.0","2.0","2.1","2.6","3.0"]}}"#;
    let answer = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let rows = [
        ("blob", blob.to_vec()),
        ("body", body.clone().into()),
        ("versions", versions.into()),
        ("answer", answer(&body).into()),
        ("answer-of-versions", answer(versions).into()),
        (
            "answer-without-length",
            format!("HTTP/1.0 200 OK\r\n\r\n{body}").into(),
        ),
        (
            "refusal",
            answer(r#"{"code": 403, "status": "Forbidden", "results": {}}"#).into(),
        ),
    ];
    rows.iter()
        .try_for_each(|(name, bytes)| save("registrar_answers", name, with_first(6, bytes)))
}
