//! The registrar over sockets: nodes that do right, and everybody else.

mod clients;

use std::time::Duration;

use agent_core::wire::text::Hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha384;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::routes::{MAX_BODY_BYTES, router};
use crate::evidence::software::SoftwareTpm;
use crate::link::{Answer, Link, LinkError, Method};
use crate::pki::Credentials;
use crate::store::Store;
use crate::testing::{Leaf, Running, TestCa, self_signed};

const UUID: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

/// A registrar of this process, on both kinds of port.
struct Here {
    plain: Running,
    tls: Running,
    ca: TestCa,
    _dir: tempfile::TempDir,
}

impl Here {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let router = router(Store::open(dir.path()).await.unwrap());
        let ca = TestCa::new();
        Self {
            plain: Running::start(router.clone(), None).await,
            tls: Running::start(router, Some(ca.server())).await,
            ca,
            _dir: dir,
        }
    }

    fn administrator(&self) -> Link {
        let credentials = self.ca.issue(Leaf::default());
        self.tls.over_tls(&self.ca.trust(), Some(&credentials))
    }
}

fn path(uuid: &str) -> String {
    format!("/v2.6/agents/{uuid}")
}

fn mtls_cert() -> String {
    use std::fmt::Write as _;
    let (der, _) = self_signed(Leaf::default());
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in BASE64.encode(&der).as_bytes().chunks(64) {
        writeln!(pem, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// What this TPM's node sends to register, as Keylime's agent does.
fn registration(tpm: &SoftwareTpm) -> Value {
    json!({
        "aik_tpm": BASE64.encode(tpm.ak().marshalled()),
        "ek_tpm": BASE64.encode(tpm.ek().marshalled()),
        "ekcert": null,
        "iak_cert": null,
        "idevid_cert": null,
        "ip": "127.0.0.1",
        "mtls_cert": mtls_cert(),
        "port": 9002,
    })
}

async fn post(link: &mut Link, uuid: &str, body: &Value) -> Answer {
    link.request(Method::POST, &path(uuid), Some(body))
        .await
        .unwrap()
}

/// The proof that a node makes of the registrar's answer.
fn proof(tpm: &SoftwareTpm, uuid: &str, registered: &Answer) -> Value {
    assert_eq!(registered.status, 200, "{}", registered.reason());
    let answer: Value = registered.json().unwrap();
    let blob = BASE64
        .decode(answer["results"]["blob"].as_str().unwrap())
        .unwrap();
    let credential = tpm.activate(&blob);
    assert!(credential.len() == 32 && credential.iter().all(u8::is_ascii_alphanumeric));
    let key = BASE64.encode(credential);
    let mut mac = Hmac::<Sha384>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(uuid.as_bytes());
    json!({"auth_tag": Hex(&mac.finalize().into_bytes()).to_string()})
}

async fn activate(link: &mut Link, uuid: &str, proof: &Value) -> Answer {
    link.request(Method::PUT, &path(uuid), Some(proof))
        .await
        .unwrap()
}

async fn register(link: &mut Link, uuid: &str, tpm: &SoftwareTpm) -> u16 {
    let registered = post(link, uuid, &registration(tpm)).await;
    activate(link, uuid, &proof(tpm, uuid, &registered))
        .await
        .status
}

async fn shown(here: &Here, uuid: &str) -> Answer {
    here.administrator().get(&path(uuid)).await.unwrap()
}

#[tokio::test]
async fn registration_is_as_recorded() {
    let here = Here::start().await;
    let tpm = SoftwareTpm::new();
    let mut node = here.plain.plain();
    let sent = registration(&tpm);
    let registered = post(&mut node, UUID, &sent).await;
    let proof = proof(&tpm, UUID, &registered);
    assert_eq!(
        shown(&here, UUID).await.status,
        404,
        "not before it is activated"
    );

    let activated = activate(&mut node, UUID, &proof).await;
    let answer: Value = activated.json().unwrap();
    assert_eq!(
        answer,
        json!({"code": 200, "status": "Success", "results": {}})
    );

    let answer: Value = shown(&here, UUID).await.json().unwrap();
    let results = json!({
        "agent_id": UUID,
        "ek_tpm": sent["ek_tpm"],
        "ekcert": null,
        "aik_tpm": sent["aik_tpm"],
        "ip": "127.0.0.1",
        "port": 9002,
        "mtls_cert": sent["mtls_cert"],
        "regcount": 1,
    });
    assert_eq!(
        answer,
        json!({"code": 200, "status": "Success", "results": results})
    );

    let mut administrator = here.administrator();
    for path in ["/v2.6/agents/", "/v2.1/agents"] {
        let answer: Value = administrator.get(path).await.unwrap().json().unwrap();
        assert_eq!(answer["results"], json!({"uuids": [UUID]}), "{path}");
    }
    let removed = administrator
        .send(Method::DELETE, &path(UUID), None)
        .await
        .unwrap();
    assert_eq!(removed.json::<Value>().unwrap()["results"], json!({}));
    assert_eq!(shown(&here, UUID).await.status, 404);
    let again = administrator
        .send(Method::DELETE, &path(UUID), None)
        .await
        .unwrap();
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn versions() {
    let here = Here::start().await;
    let mut node = here.plain.plain();
    let answer: Value = node.get("/version").await.unwrap().json().unwrap();
    assert_eq!(answer["results"]["current_version"], "2.6");
    assert_eq!(answer["results"]["supported_versions"][0], "2.1");
    for (path, status, body) in [
        ("/v2.0/agents/a", 400, true),
        ("/v3.0/agents/a", 400, true),
        ("/v9.9/nothing", 400, true),
        ("/v2.6/nothing", 404, false),
        ("/nothing", 404, false),
        ("/agents/a", 404, false),
        ("/version/agents/a", 404, false),
    ] {
        let answer = node.get(path).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(
            answer.reason() == "API version not supported",
            body,
            "{path}"
        );
        assert_eq!(answer.body.is_empty(), !body, "{path}");
    }
}

#[tokio::test]
async fn activation_by_any_of_its_routes() {
    let here = Here::start().await;
    let tpm = SoftwareTpm::new();
    let mut node = here.tls.over_tls(&here.ca.trust(), None);
    for (count, (method, suffix)) in [
        (Method::PUT, ""),
        (Method::PUT, "/activate"),
        (Method::POST, "/activate"),
    ]
    .into_iter()
    .enumerate()
    {
        let registered = post(&mut node, UUID, &registration(&tpm)).await;
        let proof = proof(&tpm, UUID, &registered);
        let path = format!("{}{suffix}", path(UUID));
        assert_eq!(
            node.request(method, &path, Some(&proof))
                .await
                .unwrap()
                .status,
            200
        );
        let answer: Value = shown(&here, UUID).await.json().unwrap();
        assert_eq!(answer["results"]["regcount"], count + 1);
    }
}

#[tokio::test]
async fn failed_activation_tells_nothing() {
    let here = Here::start().await;
    let tpm = SoftwareTpm::new();
    let mut node = here.plain.plain();
    let mut bodies = Vec::new();
    for wrong in [
        "00".repeat(48),
        "zz".to_owned(),
        String::new(),
        "0".repeat(2000),
    ] {
        let registered = post(&mut node, UUID, &registration(&tpm)).await;
        let proof = proof(&tpm, UUID, &registered);
        let answer = activate(&mut node, UUID, &json!({"auth_tag": wrong})).await;
        assert_eq!(answer.status, 400);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains(proof["auth_tag"].as_str().unwrap()));
        bodies.push(text);
        // One try: the right proof comes too late.
        assert_eq!(activate(&mut node, UUID, &proof).await.status, 404);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "one answer to all of them: {bodies:?}");
    assert_eq!(shown(&here, UUID).await.status, 404);
    assert_eq!(
        register(&mut node, UUID, &tpm).await,
        200,
        "the next one works"
    );

    let answer = activate(&mut node, UUID, &json!({"auth_tag": "00".repeat(48)})).await;
    assert_eq!(answer.status, 404, "nothing waits");
    assert_eq!(
        shown(&here, UUID).await.status,
        200,
        "what is on record stays"
    );
}

#[tokio::test]
async fn uuid_takeover_is_refused() {
    let here = Here::start().await;
    let (owner, thief) = (SoftwareTpm::new(), SoftwareTpm::new());
    let mut node = here.plain.plain();
    assert_eq!(register(&mut node, UUID, &owner).await, 200);
    let before = shown(&here, UUID).await.body;

    let mut new_ak = registration(&owner);
    new_ak["aik_tpm"] = registration(&thief)["aik_tpm"].clone();
    let mut new_ek = registration(&owner);
    new_ek["ek_tpm"] = registration(&thief)["ek_tpm"].clone();
    for (name, body) in [
        ("all", registration(&thief)),
        ("AK", new_ak),
        ("EK", new_ek),
    ] {
        let answer = post(&mut node, UUID, &body).await;
        assert_eq!(answer.status, 403, "another {name}");
    }
    // A thief that knows the owner's public keys can't activate them, and changes nothing.
    let mut moved = registration(&owner);
    moved["ip"] = json!("10.6.6.6");
    assert_eq!(post(&mut node, UUID, &moved).await.status, 200);
    let wrong = json!({"auth_tag": "00".repeat(48)});
    assert_eq!(activate(&mut node, UUID, &wrong).await.status, 400);
    assert_eq!(shown(&here, UUID).await.body, before);

    here.administrator()
        .send(Method::DELETE, &path(UUID), None)
        .await
        .unwrap();
    assert_eq!(
        register(&mut node, UUID, &thief).await,
        200,
        "free after it is deleted"
    );
}

#[tokio::test]
async fn uuid_takeover_in_a_race_has_one_winner() {
    let here = Here::start().await;
    for round in 0..8 {
        let uuid = format!("raced-{round}");
        let tpms = [SoftwareTpm::new(), SoftwareTpm::new(), SoftwareTpm::new()];
        let mut proofs = Vec::new();
        for tpm in &tpms {
            let mut link = here.plain.plain();
            let registered = post(&mut link, &uuid, &registration(tpm)).await;
            proofs.push((link, proof(tpm, &uuid, &registered)));
        }
        let mut racing = tokio::task::JoinSet::new();
        for (number, (mut link, proof)) in proofs.into_iter().enumerate() {
            let uuid = uuid.clone();
            racing.spawn(async move { (number, activate(&mut link, &uuid, &proof).await.status) });
        }
        let results = racing.join_all().await;
        let winners: Vec<_> = results
            .iter()
            .filter(|(_, status)| *status == 200)
            .collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(
            results.iter().filter(|(_, status)| *status == 403).count(),
            2,
            "{results:?}"
        );
        let answer: Value = shown(&here, &uuid).await.json().unwrap();
        let winner = tpms[winners[0].0].ek();
        assert_eq!(
            answer["results"]["ek_tpm"],
            BASE64.encode(winner.marshalled())
        );
    }
}

#[tokio::test]
async fn bad_registrations_are_refused() {
    let here = Here::start().await;
    let tpm = SoftwareTpm::new();
    let good = registration(&tpm);
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let ak = |attributes| {
        let mut fields = tpm.ak_fields();
        fields.attributes = attributes;
        with("aik_tpm", json!(BASE64.encode(fields.marshal())))
    };
    let (other, _) = self_signed(Leaf::default());
    let rows = [
        ("unrestricted_ak_is_refused", ak(0x0004_0072), "restricted"),
        ("foreign_ak_is_refused", ak(0x0005_0040), "fixedTPM"),
        ("no AK", with("aik_tpm", Value::Null), "aik_tpm is missing"),
        ("no EK", with("ek_tpm", Value::Null), "ek_tpm is missing"),
        (
            "EK for AK",
            with("aik_tpm", good["ek_tpm"].clone()),
            "aik_tpm",
        ),
        (
            "AK for EK",
            with("ek_tpm", good["aik_tpm"].clone()),
            "ek_tpm",
        ),
        ("no base64", with("ek_tpm", json!("%")), "base64"),
        (
            "no certificate",
            with("ekcert", json!("-----BEGIN CERTIFICATE-----\n")),
            "ekcert",
        ),
        (
            "certificate of another key",
            with("ekcert", json!(BASE64.encode(&other))),
            "another key",
        ),
        (
            "null mtls_cert",
            with("mtls_cert", Value::Null),
            "mtls_cert is missing",
        ),
        ("no mtls_cert", with("mtls_cert", json!("yes")), "mtls_cert"),
        ("host with a path", with("ip", json!("a/b")), "ip"),
        ("port 0", with("port", json!(0)), "port"),
        ("port 65536", with("port", json!(65536)), "JSON"),
        ("no object", json!([]), "JSON"),
    ];
    let mut node = here.plain.plain();
    for (name, body, wanted) in rows {
        let answer = post(&mut node, UUID, &body).await;
        assert_eq!(answer.status, 400, "{name}");
        assert!(
            answer.reason().contains(wanted),
            "{name}: {}",
            answer.reason()
        );
    }
    for uuid in ["a%20b", "a%2Fb", "%00", &"a".repeat(200)] {
        assert_eq!(post(&mut node, uuid, &good).await.status, 400, "{uuid}");
    }
    let large = with("iak_cert", json!("a".repeat(MAX_BODY_BYTES)));
    assert_eq!(
        post(&mut here.plain.plain(), UUID, &large).await.status,
        413
    );
    let good = with("mtls_cert", json!("disabled"));
    assert_eq!(post(&mut node, UUID, &good).await.status, 200);
}

#[tokio::test]
async fn ek_certificate_is_kept_as_der() {
    // A certificate of the EK's own key: P-256 keys of rcgen are the TPM's here.
    let here = Here::start().await;
    let tpm = SoftwareTpm::new();
    let der = tpm.ek_certificate();
    let pem = |der: &[u8]| {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            BASE64.encode(der)
        )
    };
    let (issuer, _) = self_signed(Leaf::default());
    let padded = [&der[..], &[0xFF; 40]].concat();
    let mut node = here.plain.plain();
    for (name, text) in [
        ("PEM", pem(&der)),
        ("PEM chain", pem(&der) + &pem(&issuer)),
        ("base64 of DER", BASE64.encode(&der)),
        ("padded, as NV storage has it", BASE64.encode(&padded)),
    ] {
        let mut body = registration(&tpm);
        body["ekcert"] = json!(text);
        let registered = post(&mut node, UUID, &body).await;
        let proof = proof(&tpm, UUID, &registered);
        assert_eq!(
            activate(&mut node, UUID, &proof).await.status,
            200,
            "{name}"
        );
        let answer: Value = shown(&here, UUID).await.json().unwrap();
        assert_eq!(answer["results"]["ekcert"], BASE64.encode(&der), "{name}");
    }
    assert_eq!(
        post(&mut node, UUID, &registration(&tpm)).await.status,
        403,
        "without it"
    );
}
