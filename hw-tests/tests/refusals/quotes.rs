//! Quotes that don't hold: wrong values, changed, replayed, recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, enrolment};
use hw_tests::liar::Liar;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Reply;
use hw_tests::relay::{Lie, honest};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::{CLEAN, wait_for_state};

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
