//! Requests that aren't granted: policies nobody can evaluate, routes without the right certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::byhand::enrolment;
use hw_tests::node::{self, Node};
use hw_tests::payload;
use hw_tests::raw::{Client, Credential};
use hw_tests::servers::{REGISTRAR_TLS_PORT, VERIFIER_PORT, Verifier};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

use crate::CLEAN;

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
