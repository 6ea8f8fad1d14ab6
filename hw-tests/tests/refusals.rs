//! Who doesn't prove what it must, gets nothing: no V, no route, no seal.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, enrolment};
use hw_tests::liar::Liar;
use hw_tests::node::{self, Node};
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::{Client, Credential, Reply};
use hw_tests::relay::{Lie, honest};
use hw_tests::servers::{REGISTRAR_TLS_PORT, VERIFIER_PORT, Verifier};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

/// A policy that every fresh TPM meets.
const CLEAN: &str = r#"{"15": "0000000000000000000000000000000000000000000000000000000000000000", "mask": "0x8000"}"#;

#[test]
fn wrong_pcr_gets_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        node.tpm().extend(15, 0x5a)?;
        let held = node.tpm().tool("tpm2_pcrread", &["sha256:15"])?;
        let held = held
            .split("0x")
            .nth(1)
            .ok_or("no PCR value")?
            .trim()
            .to_lowercase();
        let wanted = "0".repeat(64);

        let policy = format!(r#"{{"15": "{wanted}"}}"#);
        let add = [
            "-t",
            &node.ip(),
            "--cert",
            "myca",
            "--include",
            "payload",
            "--tpm_policy",
            &policy,
        ];
        let told = tenant.fails(&add)?;
        told.says(&["15", &held, &wanted])?;

        // U may have been decrypted, V can't have been: it never came.
        assert!(node.tpm().tally().count(code::RSA_DECRYPT) <= 1);
        assert!(
            !node.machine().unzipped().exists(),
            "something was unpacked"
        );
        assert!(
            !node.machine().root().join(".ssh").exists(),
            "the script ran"
        );
        let answer = verifier
            .client_of(&node)?
            .get("/v2.6/keys/verify?challenge=hasitgotk")?;
        assert_eq!(answer.status, 400, "the agent has K: {}", answer.body);

        // The same node with the policy that it meets.
        tenant.does(&["-c", "delete", "-u", &node.uuid()?])?;
        let policy = format!(r#"{{"15": ["{wanted}", "{held}"]}}"#);
        tenant.does(&[
            "-t",
            &node.ip(),
            "--cert",
            "myca",
            "--include",
            "payload",
            "--tpm_policy",
            &policy,
        ])?;
        Ok(())
    });
}

#[test]
fn every_flipped_field_fails() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let liar = Liar::before(verifier.client_of(&node)?, honest())?;
        let victim = Victim {
            verifier: &verifier,
            node: &node,
            liar: &liar,
        };
        victim.enrol()?;
        victim
            .passes()
            .map_err(|error| format!("the truth: {error}"))?;

        for (what, lie) in lies() {
            victim.leave()?;
            liar.now_tells(lie);
            let heard = liar.heard().len();
            victim.enrol()?;
            victim.fails().map_err(|error| format!("{what}: {error}"))?;
            let vkeys = liar
                .heard()
                .into_iter()
                .skip(heard)
                .filter(|request| request.contains("vkey"))
                .count();
            assert_eq!(vkeys, 0, "{what}: V was sent");
        }

        victim.leave()?;
        liar.now_tells(honest());
        victim.enrol()?;
        victim.passes()
    });
}

#[test]
fn replayed_quote_fails() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let mut recorded: Option<Reply> = None;
        // The first quote is told as it is, and then again and again.
        let replay: Lie = Box::new(move |path, truth| {
            if path.contains("/quotes/integrity") {
                recorded.get_or_insert(truth).clone()
            } else {
                truth
            }
        });
        let liar = Liar::before(verifier.client_of(&node)?, replay)?;
        let victim = Victim {
            verifier: &verifier,
            node: &node,
            liar: &liar,
        };
        victim.enrol()?;
        victim.fails()
    });
}

#[test]
fn recorded_boot_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tape = Arc::new(Mutex::new(Vec::<(String, Reply)>::new()));
        let recorder: Lie = Box::new({
            let tape = Arc::clone(&tape);
            move |path, truth| {
                lock(&tape).push((without_nonce(path), truth.clone()));
                truth
            }
        });
        let liar = Liar::before(verifier.client_of(&node)?, recorder)?;
        let victim = Victim {
            verifier: &verifier,
            node: &node,
            liar: &liar,
        };
        victim.enrol()?;
        victim.passes()?;
        victim.leave()?;

        // The machine boots something else; whoever has the good boot's traffic answers in its place, word for word.
        node.tpm().extend(15, 1)?;
        let given = count(&liar, "vkey");
        liar.now_tells(Box::new(move |path, truth| {
            let path = without_nonce(path);
            let good = lock(&tape).iter().find(|(said, _)| *said == path).cloned();
            good.map_or(truth, |(_, reply)| reply)
        }));
        victim.enrol()?;
        victim.fails()?;
        assert_eq!(count(&liar, "vkey"), given, "V was sent again");
        Ok(())
    });
}

#[test]
fn nonce_unique_single_use_per_agent() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let liar = Liar::before(verifier.client_of(&node)?, honest())?;
        let victim = Victim {
            verifier: &verifier,
            node: &node,
            liar: &liar,
        };
        victim.enrol()?;
        let nonces = until(LIMIT, "ten quotes", || {
            let heard = liar.heard();
            let nonces = heard
                .iter()
                .filter_map(|request| request.split("nonce=").nth(1)?.split(['&', ' ']).next());
            let nonces: Vec<String> = nonces.map(str::to_owned).collect();
            (nonces.len() >= 10).then_some(nonces)
        })?;
        let mut unique = nonces.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), nonces.len(), "{nonces:?}");
        assert!(nonces.iter().all(|nonce| nonce.len() >= 20), "{nonces:?}");
        Ok(())
    });
}

#[test]
fn uuid_takeover_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let uuid = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";
        let first = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;

        let mut second = Node::install(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        second.launch()?.wait_for("403")?;
        let after = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        assert_eq!(record, after);

        // An administrator can make room.
        drop(first);
        drop(second.stop_agent());
        Tenant::beside(&verifier)?.does(&["-c", "regdelete", "-u", uuid])?;
        second.start_agent()?;
        second.wait_until_registered()?;
        Ok(())
    });
}

#[test]
fn uuid_takeover_is_refused_in_a_race() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let uuid = "d432fbb3-d2f1-4a97-9ef7-75bd81c00001";
        let mut one = Node::install(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        let mut other = Node::install(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        one.launch()?;
        other.launch()?;
        let logs = [one.log()?, other.log()?];
        let won = |at: usize| logs[at].text().contains("registered as");
        let lost = |at: usize| logs[at].text().contains("403");
        until(LIMIT, "winner and loser", || {
            (won(0) && lost(1) || won(1) && lost(0)).then_some(())
        })?;
        assert!(won(0) != won(1), "both registered");
        Ok(())
    });
}

#[test]
fn tenant_pins_the_ek() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let uuid = "d432fbb3-d2f1-4a97-9ef7-75bd81c00002";
        let first = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &first.ip(), "--cert", "myca", "--include", "payload"])?;
        tenant.does(&["-c", "delete", "-u", uuid])?;
        tenant.does(&["-c", "regdelete", "-u", uuid])?;
        drop(first);

        // A genuine TPM of the same manufacturer, but not the one that the tenant knows by this uuid.
        let second = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--uuid", uuid])?;
        let told = tenant.fails(&["-t", &second.ip(), "--cert", "myca", "--include", "payload"])?;
        told.says(&["known_eks"])?;
        assert_eq!(
            second.tpm().tally().count(code::RSA_DECRYPT),
            0,
            "a key half was sent"
        );
        Ok(())
    });
}

#[test]
fn unknown_manufacturer_is_named() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let store = verifier.machine().keylime().join("tpm_cert_store");
        fs::remove_dir_all(&store)?;
        fs::create_dir(&store)?;
        let add = ["-t", &node.ip(), "--cert", "myca", "--include", "payload"];
        tenant
            .fails(&add)?
            .says(&["swtpm-localca", "tpm_cert_store"])?;
        assert_eq!(
            node.tpm().tally().count(code::RSA_DECRYPT),
            0,
            "a key half was sent"
        );
        Tenant::beside(&verifier)?.does(&add)?;
        Ok(())
    });
}

#[test]
fn unrestricted_ak_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        let own = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
        let keys = [
            ("not restricted", own.to_owned()),
            (
                "not fixed to its TPM",
                "sensitivedataorigin|userwithauth|noda|sign|restricted".to_owned(),
            ),
        ];
        for (number, (what, attributes)) in keys.iter().enumerate() {
            let ak =
                make_key(node.tpm(), attributes).map_err(|error| format!("{what}: {error}"))?;
            // The registrar.
            let body = registration(&record, &ak);
            let path = format!("/v2.6/agents/unrestricted-{number}");
            let answer = verifier.agents_port().send("POST", &path, Some(&body))?;
            assert_eq!(answer.status, 400, "{what}: {}", answer.body);
            // The verifier.
            let mut body = enrolment(&record, CLEAN, None);
            body["ak_tpm"] = ak.clone().into();
            let path = format!("/v2.6/agents/{uuid}");
            let answer = verifier.client()?.send("POST", &path, Some(&body))?;
            assert_eq!(answer.status, 400, "{what}: {}", answer.body);
            assert_eq!(
                verifier.client()?.get(&path)?.status,
                404,
                "{what}: it was added"
            );
        }
        Ok(())
    });
}

#[test]
fn foreign_ak_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let (one, other) = (Swtpm::fresh(site)?, Swtpm::fresh(site)?);
        let (one, other) = (Node::boot(&verifier, one)?, Node::boot(&verifier, other)?);
        let registrar = verifier.registrar_client()?;
        let mut record = registrar
            .get(&format!("/v2.6/agents/{}", one.uuid()?))?
            .results()?;
        let foreign = registrar
            .get(&format!("/v2.6/agents/{}", other.uuid()?))?
            .results()?;

        // EK of one TPM, AK of another: the credential opens in neither, so no tag can be right.
        record["aik_tpm"] = foreign["aik_tpm"].clone();
        let body = registration(&record, record["aik_tpm"].as_str().unwrap_or_default());
        let path = "/v2.6/agents/chimera";
        let offered = verifier
            .agents_port()
            .send("POST", path, Some(&body))?
            .results()?;
        assert!(offered["blob"].is_string(), "{offered}");
        assert_eq!(
            registrar.get(path)?.status,
            404,
            "it is active before its proof"
        );
        let guess = json!({ "auth_tag": "00".repeat(48) });
        let answer = verifier.agents_port().send("PUT", path, Some(&guess))?;
        assert_eq!(answer.status, 400);
        Ok(())
    });
}

#[test]
fn failed_activation_tells_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        let body = registration(&record, record["aik_tpm"].as_str().unwrap_or_default());
        let path = "/v2.6/agents/impostor";
        verifier
            .agents_port()
            .send("POST", path, Some(&body))?
            .results()?;
        let guess = json!({ "auth_tag": "ab".repeat(48) });
        let answer = verifier.agents_port().send("PUT", path, Some(&guess))?;
        assert_eq!(answer.status, 400);
        let hex = answer
            .body
            .split(|c: char| !c.is_ascii_hexdigit())
            .map(str::len)
            .max()
            .unwrap_or(0);
        assert!(hex < 32, "{}", answer.body);
        // One try: the record is gone.
        assert_eq!(
            verifier
                .agents_port()
                .send("PUT", path, Some(&guess))?
                .status,
            404
        );
        // And the one that was there is untouched.
        assert_eq!(
            verifier
                .registrar_client()?
                .get(&format!("/v2.6/agents/{uuid}"))?
                .results()?,
            record
        );
        Ok(())
    });
}

#[test]
fn ak_swapped_between_steps() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let (one, other) = (Swtpm::fresh(site)?, Swtpm::fresh(site)?);
        let (one, other) = (Node::boot(&verifier, one)?, Node::boot(&verifier, other)?);
        let registrar = verifier.registrar_client()?;
        let mut record = registrar
            .get(&format!("/v2.6/agents/{}", one.uuid()?))?
            .results()?;
        let foreign = registrar
            .get(&format!("/v2.6/agents/{}", other.uuid()?))?
            .results()?;
        record["aik_tpm"] = foreign["aik_tpm"].clone();
        let package = Package::of(b"x")?;
        let path = format!("/v2.6/agents/{}", one.uuid()?);
        let answer = verifier.client()?.send(
            "POST",
            &path,
            Some(&enrolment(&record, CLEAN, Some(&package.v()))),
        )?;
        // Refused at once, or at the first quote: never V.
        if answer.status == 200 {
            wait_for_state(&verifier, &one.uuid()?, &[7, 9])?;
        }
        assert_eq!(one.tpm().tally().count(code::RSA_DECRYPT), 0, "V was sent");
        Ok(())
    });
}

#[test]
fn unevaluated_policy_fails() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let uuid = node.uuid()?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        let runtime =
            BASE64.encode(r#"{"meta":{"version":1},"digests":{"/bin/x":["00"]},"excludes":[]}"#);
        let policies = [
            ("runtime_policy", Value::from(runtime)),
            ("mb_policy", Value::from(r#"{"has_secureboot": true}"#)),
            ("ima_sign_verification_keys", Value::from(r#"["key"]"#)),
            ("tpm_policy", Value::from("{")),
            ("tpm_policy", Value::from(r#"{"99": "00"}"#)),
            ("tpm_policy", Value::from(r#"{"16": "00"}"#)),
            ("tpm_policy", Value::from(r#"{"15": "zz"}"#)),
        ];
        for (field, policy) in policies {
            let mut body = enrolment(&record, CLEAN, None);
            body[field] = policy.clone();
            let path = format!("/v2.6/agents/{uuid}");
            let answer = verifier.client()?.send("POST", &path, Some(&body))?;
            assert_eq!(answer.status, 400, "{field} {policy}: {}", answer.body);
            assert_eq!(
                verifier.client()?.get(&path)?.status,
                404,
                "{field} {policy}: it was added"
            );
        }
        Ok(())
    });
}

#[test]
fn every_route_by_every_credential() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        let uuid = node.uuid()?;
        let leaf = || {
            let files = [format!("{uuid}-cert.crt"), format!("{uuid}-private.pem")]
                .map(|name| node.unzipped(&name));
            Credential::files(&files[0], &files[1])
        };
        let long_ago = || {
            let files = ["cacert.crt", "ca-private.pem"].map(|name| verifier.ca_file(name));
            Credential::expired(&files[0], &files[1])
        };
        let who: [(&str, &dyn Fn() -> Result<Credential>); 4] = [
            ("nobody", &|| Ok(Credential::none())),
            ("a stranger", &|| Credential::stranger()),
            ("a node of another CA", &leaf),
            ("an administrator of long ago", &long_ago),
        ];
        let agent = (node.address(), node::PORT, AGENT_ROUTES);
        let server = (verifier.address(), VERIFIER_PORT, VERIFIER_ROUTES);
        let registrar = (verifier.address(), REGISTRAR_TLS_PORT, REGISTRAR_ROUTES);
        for (name, credential) in who {
            for (address, port, routes) in [agent, server, registrar] {
                for (method, route) in routes {
                    let route = route.replace("{uuid}", &uuid);
                    let client = Client::tls(address, port, credential()?)?;
                    // Either the handshake ends it, or an answer that says no.
                    let answer = client.send(method, &route, Some(&json!({})));
                    let refused = answer
                        .as_ref()
                        .map_or(true, |reply| matches!(reply.status, 401 | 403));
                    assert!(refused, "{name}, {method} {route} at {port}: {answer:?}");
                }
            }
        }
        // The port for agents has no administration.
        for (method, route) in REGISTRAR_ROUTES {
            let answer =
                verifier
                    .agents_port()
                    .send(method, &route.replace("{uuid}", &uuid), None)?;
            assert!(
                matches!(answer.status, 401 | 403 | 404 | 405),
                "{method} {route}: {answer:?}"
            );
        }
        // Nothing of it had an effect.
        assert_eq!(
            verifier
                .client()?
                .get(&format!("/v2.6/agents/{uuid}"))?
                .status,
            200
        );
        assert_eq!(
            verifier
                .registrar_client()?
                .get(&format!("/v2.6/agents/{uuid}"))?
                .status,
            200
        );
        Ok(())
    });
}

const AGENT_ROUTES: &[(&str, &str)] = &[
    ("GET", "/version"),
    ("GET", "/v2.6/agent/info"),
    ("GET", "/v2.6/quotes/identity?nonce=abc"),
    (
        "GET",
        "/v2.6/quotes/integrity?nonce=abc&mask=0x8000&partial=0",
    ),
    ("GET", "/v2.6/keys/pubkey"),
    ("POST", "/v2.6/keys/ukey"),
    ("POST", "/v2.6/keys/vkey"),
    ("GET", "/v2.6/keys/verify?challenge=abc"),
    ("POST", "/v2.6/notifications/revocation"),
    ("GET", "/v2.6/payload/outcome"),
];

const VERIFIER_ROUTES: &[(&str, &str)] = &[
    ("GET", "/v2.6/agents/"),
    ("GET", "/v2.6/agents/{uuid}"),
    ("POST", "/v2.6/agents/{uuid}"),
    ("PUT", "/v2.6/agents/{uuid}/stop"),
    ("PUT", "/v2.6/agents/{uuid}/reactivate"),
    ("DELETE", "/v2.6/agents/{uuid}"),
];

const REGISTRAR_ROUTES: &[(&str, &str)] = &[
    ("GET", "/v2.6/agents/"),
    ("GET", "/v2.6/agents/{uuid}"),
    ("DELETE", "/v2.6/agents/{uuid}"),
];

/// What the verifier is told through the liar.
struct Victim<'a> {
    verifier: &'a Verifier<'a>,
    node: &'a Node<'a>,
    liar: &'a Liar,
}

impl Victim<'_> {
    /// Adds the node to the verifier, at the liar's address.
    fn enrol(&self) -> Result {
        let uuid = self.node.uuid()?;
        let record = self
            .verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{uuid}"))?
            .results()?;
        let package = Package::of(b"x")?;
        let mut body = enrolment(&record, CLEAN, Some(&package.v()));
        body["cloudagent_ip"] = self.liar.address().to_string().into();
        body["mtls_cert"] = self.liar.certificate().into();
        self.verifier
            .client()?
            .send("POST", &format!("/v2.6/agents/{uuid}"), Some(&body))?
            .results()?;
        Ok(())
    }

    fn leave(&self) -> Result {
        let path = format!("/v2.6/agents/{}", self.node.uuid()?);
        self.verifier.client()?.send("DELETE", &path, None)?;
        until(LIMIT, "deletion", || {
            (self.verifier.client().ok()?.get(&path).ok()?.status == 404).then_some(())
        })
    }

    /// V was sent, so the node has passed.
    fn passes(&self) -> Result {
        until(LIMIT, "V", || {
            self.liar
                .heard()
                .iter()
                .any(|request| request.contains("vkey"))
                .then_some(())
        })
    }

    fn fails(&self) -> Result {
        wait_for_state(self.verifier, &self.node.uuid()?, &[7, 9])
    }
}

fn wait_for_state(verifier: &Verifier<'_>, uuid: &str, states: &[i64]) -> Result {
    let client = verifier.client()?;
    until(LIMIT, &format!("state of {states:?}"), || {
        let record = client
            .get(&format!("/v2.6/agents/{uuid}"))
            .ok()?
            .results()
            .ok()?;
        states
            .contains(&record["operational_state"].as_i64()?)
            .then_some(())
    })
}

/// A path, all of its query but the nonce.
fn without_nonce(path: &str) -> String {
    let (before, query) = path.split_once('?').unwrap_or((path, ""));
    let rest: Vec<&str> = query
        .split('&')
        .filter(|field| !field.starts_with("nonce="))
        .collect();
    format!("{before}?{}", rest.join("&"))
}

/// How many requests of this kind the liar has heard.
fn count(liar: &Liar, kind: &str) -> usize {
    liar.heard()
        .iter()
        .filter(|request| request.contains(kind))
        .count()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each changes one thing of a quote's answer.
fn lies() -> Vec<(String, Lie)> {
    let mut lies: Vec<(String, Lie)> = Vec::new();
    for (part, name, places) in [
        (
            0,
            "attest",
            &[
                0, 4, 6, 10, 45, 50, 70, 80, 88, 92, 100, 110, 115, 120, 125, 132,
            ][..],
        ),
        (1, "signature", &[0, 2, 4, 5, 20, 37, 40, 60]),
        (2, "PCR dump", &[0, 4, 6, 7, 8, 12, 132, 136, 140, 142, 160]),
    ] {
        for &at in places {
            let lie = quote_lie(move |results| flip_in_quote(results, part, at));
            lies.push((format!("byte {at} of the {name}"), lie));
        }
    }
    let fields = [
        ("hash_alg", "sha1"),
        ("sign_alg", "rsassa"),
        ("pubkey", "none"),
        ("quote", "r"),
        ("quote", ""),
    ];
    for (field, value) in fields {
        let lie = quote_lie(move |results| results[field] = value.into());
        lies.push((format!("{field} is {value:?}"), lie));
    }
    for field in ["quote", "hash_alg", "sign_alg", "pubkey"] {
        let lie = quote_lie(move |results| {
            drop(
                results
                    .as_object_mut()
                    .and_then(|fields| fields.remove(field)),
            )
        });
        lies.push((format!("no {field}"), lie));
    }
    type Change = fn(Reply) -> Reply;
    let whole: [(&str, Change); 3] = [
        ("not JSON", |reply| Reply {
            body: "<html>".into(),
            ..reply
        }),
        ("an empty answer", |reply| Reply {
            body: String::new(),
            ..reply
        }),
        ("a refusal", |reply| Reply {
            status: 400,
            ..reply
        }),
    ];
    for (name, change) in whole {
        lies.push((
            name.to_owned(),
            Box::new(move |path, truth| if is_quote(path) { change(truth) } else { truth }),
        ));
    }
    lies
}

fn is_quote(path: &str) -> bool {
    path.contains("/quotes/integrity")
}

fn quote_lie(mut change: impl FnMut(&mut Value) + Send + 'static) -> Lie {
    Box::new(move |path, mut truth| {
        if is_quote(path)
            && let Ok(mut body) = truth.json()
        {
            change(&mut body["results"]);
            truth.body = body.to_string();
        }
        truth
    })
}

fn flip_in_quote(results: &mut Value, part: usize, at: usize) {
    let text = results["quote"].as_str().unwrap_or_default();
    let mut parts: Vec<Vec<u8>> = text
        .strip_prefix('r')
        .unwrap_or_default()
        .split(':')
        .map(|part| BASE64.decode(part).unwrap_or_default())
        .collect();
    if let Some(byte) = parts.get_mut(part).and_then(|part| part.get_mut(at)) {
        *byte ^= 1;
    }
    let parts: Vec<String> = parts.iter().map(|part| BASE64.encode(part)).collect();
    results["quote"] = format!("r{}", parts.join(":")).into();
}

/// The body of a registration with another AK.
fn registration(record: &Value, ak: &str) -> Value {
    json!({
        "aik_tpm": ak, "ek_tpm": record["ek_tpm"], "ekcert": record["ekcert"], "iak_cert": null, "idevid_cert": null,
        "ip": record["ip"], "port": record["port"], "mtls_cert": record["mtls_cert"],
    })
}

/// Makes a signing key with these attributes, and returns its public part in base64.
fn make_key(tpm: &Swtpm, attributes: &str) -> Result<String> {
    let create = [
        "-Q",
        "-C",
        "e",
        "-G",
        "ecc256:ecdsa-sha256:null",
        "-a",
        attributes,
        "-c",
        "key.ctx",
    ];
    tpm.tool("tpm2_createprimary", &create)?;
    tpm.tool(
        "tpm2_readpublic",
        &["-Q", "-c", "key.ctx", "-f", "tss", "-o", "key.pub"],
    )?;
    tpm.tool("tpm2_flushcontext", &["-t"])?;
    Ok(BASE64.encode(fs::read(tpm.dir().join("key.pub"))?))
}
