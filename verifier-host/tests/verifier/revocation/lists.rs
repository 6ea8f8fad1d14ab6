//! Revocation lists: brought by the tenant, or signed by its delegate here.

use super::*;

/// PEM of a delegate's certificate, and of its key.
fn delegate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "signs lists");
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Number and serials of a list.
fn listed(der: &[u8]) -> (String, Vec<String>) {
    let (_, list) = CertificateRevocationList::from_der(der).unwrap();
    let serials = list.iter_revoked_certificates();
    let serials = serials
        .map(|line| line.user_certificate.to_string())
        .collect();
    (list.crl_number().unwrap().to_string(), serials)
}

#[tokio::test]
async fn delegate_signs_lists() {
    let verifier = Verifier::start().await;
    let (node, ours, keylimes) = (
        verifier.agent(1).await,
        verifier.agent(2).await,
        verifier.agent(3).await,
    );
    ours.lock().log = Some(Log::default());
    let (certificate, key) = delegate();
    let signer = json!({ "anchor": anchor(), "certificate": certificate, "key": key });
    let put = |body: Value| {
        let verifier = &verifier;
        async move {
            verifier
                .ask(Method::PUT, "/v2.6/revocations/crl-signer", Some(&body))
                .await
        }
    };
    assert_eq!(
        put(signer.clone()).await.status,
        404,
        "no log of that anchor yet"
    );
    let serial = "340282366920938463463374607431768211455";
    let metadata: Value =
        serde_json::from_str(&format!(r#"{{"cert_serial": "{serial}"}}"#)).unwrap();
    added(&verifier, "node", &with_key(&node, &metadata)).await;
    let elsewhere = json!({ "group": "elsewhere" });
    for (id, agent) in [("ours", &ours), ("keylimes", &keylimes)] {
        added(&verifier, id, &with_key(agent, &elsewhere)).await;
    }
    let mut wrong = signer.clone();
    wrong["key"] = delegate().1.into();
    assert_eq!(put(wrong).await.status, 400);
    assert_eq!(put(signer).await.status, 200);
    assert_eq!(
        verifier.registrar().get("/crl.der").await.unwrap().status,
        404
    );

    verifier.until_status("node", "PASS").await;
    node.lock().tpm.measure(7, b"another boot");
    until("its entry", || !node.lock().revocations.is_empty()).await;
    let message = checked(&node.lock().revocations.clone()).remove(0);
    let der = BASE64_STANDARD
        .decode(message["crl"].as_str().unwrap())
        .unwrap();
    assert_eq!(listed(&der), ("1".to_owned(), vec![serial.to_owned()]));
    let issuer = BASE64_STANDARD
        .decode(message["crl_issuer"].as_str().unwrap())
        .unwrap();
    assert_eq!(pem_of(&issuer), certificate.replace(['\n', '\r'], ""));

    let answer = verifier.registrar().get("/crl.der").await.unwrap();
    assert_eq!(answer.body, der);
    let prefix = &anchor()[..16];
    let answer = verifier
        .registrar()
        .get(&format!("/crl.der?ca={prefix}"))
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.to_vec()), (200, der.clone()));

    // The list is the CA's: other groups get it too, by agents that know what it is.
    until("the list", || !ours.lock().revocations.is_empty()).await;
    let list = checked(&ours.lock().revocations.clone()).remove(0);
    assert_eq!(
        (&list["type"], &list["crl"]),
        (&json!("crl"), &message["crl"])
    );
    assert_eq!(list.get("agent_id"), None);
    verifier.until_peer("keylimes", "acknowledged").await;
    assert!(
        keylimes.lock().revocations.is_empty(),
        "Keylime's would take it for a revocation"
    );

    // A tenant's own list must be newer, and goes to all.
    let new = |der: &[u8]| json!({ "anchor": anchor(), "crl": BASE64_STANDARD.encode(der) });
    let post = |body: Value| {
        let verifier = &verifier;
        async move {
            verifier
                .ask(Method::POST, "/v2.6/revocations/crl", Some(&body))
                .await
        }
    };
    assert_eq!(post(new(&der)).await.status, 409);
    assert_eq!(post(new(b"no list")).await.status, 400);
    let own = list_of_a_ca(7);
    let answer = post(new(&own)).await;
    let made = answer.json::<Value>().unwrap()["results"]["entries"].clone();
    let numbers: Vec<_> = made
        .as_array()
        .unwrap()
        .iter()
        .map(|made| made["number"].clone())
        .collect();
    assert_eq!(numbers, [2, 2]);
    let logs = verifier.results("/v2.6/revocations").await;
    assert_eq!(logs["logs"][0]["crl_number"], "7");

    // The next one goes on from there.
    verifier.revoke("node").await;
    until("the next list", || node.lock().revocations.len() >= 2).await;
    let answer = verifier.registrar().get("/crl.der").await.unwrap();
    assert_eq!(
        listed(&answer.body),
        ("8".to_owned(), vec!["5".to_owned(), serial.to_owned()])
    );
    // An operator's own list goes with a revocation, unless it is older.
    for (number, status) in [(8, 409), (9, 200)] {
        let crl = BASE64_STANDARD.encode(list_of_a_ca(number));
        let body = json!({ "agent_id": "node", "reason": "once more", "crl": crl });
        let answer = verifier
            .ask(Method::POST, "/v2.6/revocations", Some(&body))
            .await;
        assert_eq!(answer.status, status, "{}", answer.reason());
    }
    let log_id = logs["logs"][0]["log_id"].as_str().unwrap();
    let entries = verifier
        .results(&format!("/v2.6/revocations/{log_id}"))
        .await;
    let message = checked(entries["entries"].as_array().unwrap()).remove(3);
    assert_eq!(message["event_id"], "operator.revoked");
    assert_eq!(message.get("crl_issuer"), None, "the CA's own");
    let der = BASE64_STANDARD.decode(message["crl"].as_str().unwrap());
    assert_eq!(listed(&der.unwrap()).0, "9");

    let body = json!({ "anchor": anchor() });
    for status in [200, 404] {
        let answer = verifier
            .ask(Method::DELETE, "/v2.6/revocations/crl-signer", Some(&body))
            .await;
        assert_eq!(answer.status, status);
    }
    let files = std::fs::read(verifier.dir.path().join("keyhalf.sqlite-wal")).unwrap();
    let secret = key.lines().nth(1).unwrap().as_bytes();
    assert!(!files.windows(secret.len()).any(|part| part == secret));
}

/// A list that has serial 5.
fn list_of_a_ca(number: u64) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the CA");
    let now = rcgen::date_time_ymd(2026, 1, 1);
    let list = rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: rcgen::date_time_ymd(2099, 1, 1),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: 5_u64.into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let issuer = rcgen::Issuer::new(params, key);
    list.signed_by(&issuer).unwrap().der().to_vec()
}

/// A certificate as PEM in one line.
fn pem_of(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----{base64}-----END CERTIFICATE-----")
}
