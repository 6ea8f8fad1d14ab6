//! Bytes that no honest peer sends: they are refused, cost little, and stop nobody else.

use std::fs;
use std::io::Write;
use std::time::Instant;

use hw_tests::Result;
use hw_tests::byhand::{Package, random};
use hw_tests::node::{self, Node};
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Client;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

#[test]
fn malformed_requests_are_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let servers = [
            ("agent", verifier.client_of(&node)?),
            ("verifier", verifier.client()?),
            ("registrar", verifier.registrar_client()?),
            ("registrar for agents", verifier.agents_port()),
        ];
        for (server, client) in servers {
            for (what, request) in malformed() {
                // An answer that refuses, or a closed connection; never a 2xx, never silence.
                if let Ok(reply) = client.bytes(&request) {
                    assert!(
                        (400..=505).contains(&reply.status),
                        "{what} to the {server}: {reply:?}"
                    );
                }
                let version = client.get("/version")?;
                assert_eq!(version.status, 200, "{server} after {what}");
            }
        }
        Ok(())
    });
}

/// Each is a whole message, so a server can answer it without waiting for more.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let post = |headers: &str, body: &str| {
        format!("POST /v2.6/keys/ukey HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    let mut many = text("GET /version HTTP/1.1\r\nHost: x\r\n");
    for number in 0..1000 {
        many.extend(format!("x-{number}: y\r\n").bytes());
    }
    many.extend(b"\r\n");
    let long = format!(
        "GET /version?{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "a".repeat(200_000)
    );
    vec![
        (
            "chunked and sized",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "0\r\n\r\n",
            ),
        ),
        (
            "two lengths",
            post("Content-Length: 2\r\nContent-Length: 3", "{}"),
        ),
        ("a negative length", post("Content-Length: -1", "")),
        ("a length with sign", post("Content-Length: +2", "{}")),
        (
            "a huge length",
            post("Content-Length: 99999999999999999999999", ""),
        ),
        ("a large length", post("Content-Length: 1073741824", "")),
        ("garbage", text("\0\x01\x02\x03\r\n\r\n")),
        ("no version", text("GET /version\r\n\r\n")),
        ("HTTP/9", text("GET /version HTTP/9.9\r\nHost: x\r\n\r\n")),
        (
            "a space in a header name",
            text("GET /version HTTP/1.1\r\nHost : x\r\n\r\n"),
        ),
        ("a thousand headers", many),
        ("a long target", long.into_bytes()),
        (
            "deep JSON",
            post("Content-Length: 20000", &"[".repeat(20_000)),
        ),
        (
            "JSON cut short",
            post("Content-Length: 20", r#"{"encrypted_key": "a"#),
        ),
        (
            "another type",
            post("Content-Length: 13", r#"{"payload":1}"#),
        ),
        ("no body", post("Content-Length: 0", "")),
    ]
}

#[test]
fn bad_fields_are_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let client = verifier.client_of(&node)?;
        let long = "a".repeat(65);
        let queries = [
            "quotes/identity".to_owned(),
            "quotes/identity?nonce=".to_owned(),
            "quotes/identity?nonce=a-b".to_owned(),
            format!("quotes/identity?nonce={long}"),
            "quotes/integrity?nonce=abc&mask=xyz&partial=0".to_owned(),
            "quotes/integrity?nonce=abc&mask=0x1000000&partial=0".to_owned(),
            "quotes/integrity?nonce=abc&mask=0x8000&partial=2".to_owned(),
            format!("keys/verify?challenge={long}"),
            "keys/verify?challenge=a%00b".to_owned(),
        ];
        for query in queries {
            let answer = client.get(&format!("/v2.6/{query}"))?;
            assert_eq!(answer.status, 400, "{query}: {}", answer.body);
            assert_eq!(answer.json()?["code"], 400, "{query}");
        }
        for version in ["v1.0", "v2.7", "v3.0", "v9.9"] {
            let answer = client.get(&format!("/{version}/keys/pubkey"))?;
            assert_eq!(answer.status, 400, "{version}");
            assert!(
                answer.body.contains("API version not supported"),
                "{version}: {}",
                answer.body
            );
        }
        let transport = transport(&client)?;
        let package = Package::of(b"x")?;
        let good = package.ukey(&node.uuid()?, &transport)?;
        let changes = [
            ("encrypted_key", json!("%%%")),
            ("encrypted_key", json!("AAAA")),
            ("auth_tag", json!("zz".repeat(48))),
            ("auth_tag", json!("ab".repeat(47))),
            ("payload", json!("AAA")),
            ("payload", json!("%%%%")),
        ];
        for (field, value) in changes {
            let mut body = good.clone();
            body[field] = value.clone();
            let answer = client.send("POST", "/v2.6/keys/ukey", Some(&body))?;
            assert_eq!(answer.status, 400, "{field} = {value}: {}", answer.body);
        }
        assert_eq!(
            client.send("POST", "/v2.6/keys/ukey", Some(&good))?.status,
            200
        );
        Ok(())
    });
}

#[test]
fn body_that_never_comes_is_given_up() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let transport = transport(&verifier.client_of(&node)?)?;
        let body = Package::of(&[7; 100_000])?
            .ukey(&node.uuid()?, &transport)?
            .to_string();
        let head = format!(
            "POST /v2.6/keys/ukey HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );

        // Half a body, and the peer is gone.
        let mut session = verifier.client_of(&node)?.connect()?;
        session.write(head.as_bytes())?;
        session.write(&body.as_bytes()[..body.len() / 2])?;
        drop(session);
        // Half a body, and the peer stays: its patience runs out.
        let mut session = verifier.client_of(&node)?.connect()?;
        session.write(head.as_bytes())?;
        session.write(&body.as_bytes()[..body.len() / 2])?;
        session.wait_until_closed()?;

        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        Ok(())
    });
}

#[test]
fn endless_requests_are_cut_off() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let clients = [
            verifier.client_of(&node)?,
            verifier.client()?,
            verifier.agents_port(),
        ];
        let starts = [
            "GET /version HTTP/1.1\r\nx: ",
            "POST /v2.6/keys/ukey HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        ];
        for client in &clients {
            for start in starts {
                let mut session = client.connect()?;
                session.write(start.as_bytes())?;
                let piece = [b'a'; 1 << 16];
                // A server that has refused may read on for a moment, so that its answer arrives.
                let started = Instant::now();
                while session.write(&piece).is_ok() {
                    let took = started.elapsed();
                    assert!(took < LIMIT, "{client:?} reads {start:?} for ever");
                }
            }
            assert_eq!(client.get("/version")?.status, 200);
        }
        Ok(())
    });
}

#[test]
fn slow_client_blocks_nobody() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let clients = [
            verifier.client_of(&node)?,
            verifier.client()?,
            verifier.registrar_client()?,
            verifier.agents_port(),
        ];
        let mut slow = Vec::new();
        for client in &clients {
            for number in 0..20 {
                let mut tcp = client.connect_tcp()?;
                // Some say nothing, some start a TLS hello and stop.
                if number % 2 == 0 {
                    tcp.write_all(&[0x16, 0x03, 0x01])?;
                }
                slow.push(tcp);
            }
        }
        for client in &clients {
            assert_eq!(client.get("/version")?.status, 200, "{client:?}");
        }
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        drop(slow);
        Ok(())
    });
}

#[test]
fn answers_without_delayed_ack() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        for client in [
            verifier.client_of(&node)?,
            verifier.client()?,
            verifier.agents_port(),
        ] {
            let mut session = client.connect()?;
            let mut best = LIMIT;
            for _ in 0..40 {
                let asked = Instant::now();
                assert_eq!(session.send("GET", "/version", None)?.status, 200);
                best = best.min(asked.elapsed());
            }
            // With Nagle against delayed acknowledgements every answer takes 40 ms; the best of 40 tells on any machine.
            assert!(best.as_millis() < 40, "{best:?}: {client:?}");
        }
        Ok(())
    });
}

#[test]
fn halves_wait_for_each_other() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let client = verifier.client_of(&node)?;
        let (uuid, transport) = (node.uuid()?, transport(&client)?);
        let archive = payload::archive(&[("file", b"of this payload")])?;
        let post = |route: &str, body: &Value| -> Result {
            client
                .send("POST", &format!("/v2.6/keys/{route}"), Some(body))?
                .results()?;
            Ok(())
        };
        let has_key = |package: &Package| -> Result<bool> {
            let answer = client.get("/v2.6/keys/verify?challenge=whichpayload")?;
            Ok(answer.status == 200 && answer.results()?["hmac"] == package.proof("whichpayload"))
        };

        // V alone gives nothing.
        let one = Package::of(&archive)?;
        post("vkey", &one.vkey(&transport)?)?;
        assert!(!has_key(&one)?);
        // Then its U: K, and the payload.
        post("ukey", &one.ukey(&uuid, &transport)?)?;
        wait_until_finished(&client)?;
        assert!(has_key(&one)?);
        assert_eq!(fs::read(node.unzipped("file"))?, b"of this payload");

        // U of one payload with V of another: no key, and nobody answers for the payload before.
        let (two, three) = (Package::of(&archive)?, Package::of(&archive)?);
        post("ukey", &two.ukey(&uuid, &transport)?)?;
        post("vkey", &three.vkey(&transport)?)?;
        assert!(!has_key(&one)? && !has_key(&two)? && !has_key(&three)?);

        // The V that waited fits its own U.
        post("ukey", &three.ukey(&uuid, &transport)?)?;
        wait_until_finished(&client)?;
        assert!(has_key(&three)?);

        // U twice: the newer counts.
        let four = Package::of(&payload::archive(&[("newer", b"newer")])?)?;
        post("ukey", &two.ukey(&uuid, &transport)?)?;
        post("ukey", &four.ukey(&uuid, &transport)?)?;
        post("vkey", &four.vkey(&transport)?)?;
        wait_until_finished(&client)?;
        assert!(has_key(&four)?);
        assert!(node.unzipped("newer").exists() && !node.unzipped("file").exists());
        Ok(())
    });
}

#[test]
fn ukey_flood_is_bounded() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let client = verifier.client_of(&node)?;
        let (uuid, transport) = (node.uuid()?, transport(&client)?);
        let large = payload::archive(&[(
            "noise",
            &(0..64)
                .map(|_| random::<16384>())
                .collect::<Result<Vec<_>>>()?
                .concat(),
        )])?;
        let flood = |times: usize| -> Result<u64> {
            let mut session = client.connect()?;
            for _ in 0..times {
                let body = Package::of(&large)?.ukey(&uuid, &transport)?;
                assert_eq!(
                    session.send("POST", "/v2.6/keys/ukey", Some(&body))?.status,
                    200
                );
            }
            resident_kib(node.program()?.pid())
        };
        let first = flood(3)?;
        let later = flood(30)?;
        assert!(
            later < first + 2048,
            "{first} KiB, after thirty more payloads of 1 MiB {later} KiB"
        );

        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        Ok(())
    });
}

#[test]
fn registrar_takes_no_nonsense() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let record = verifier
            .registrar_client()?
            .get(&format!("/v2.6/agents/{}", node.uuid()?))?
            .results()?;
        let good = json!({
            "aik_tpm": record["aik_tpm"], "ek_tpm": record["ek_tpm"], "ekcert": record["ekcert"], "iak_cert": null,
            "idevid_cert": null, "ip": record["ip"], "port": record["port"], "mtls_cert": record["mtls_cert"],
        });
        let changes = [
            ("aik_tpm", json!("AAAA")),
            ("aik_tpm", json!("%")),
            ("aik_tpm", json!(null)),
            ("aik_tpm", record["ek_tpm"].clone()),
            ("ek_tpm", json!("AAAA")),
            ("ek_tpm", record["aik_tpm"].clone()),
            ("mtls_cert", json!("no certificate")),
            ("port", json!(70_000)),
            ("ip", json!("not an address; rm -rf /")),
        ];
        for (field, value) in changes {
            let mut body = good.clone();
            body[field] = value.clone();
            let answer =
                verifier
                    .agents_port()
                    .send("POST", "/v2.6/agents/nonsense", Some(&body))?;
            assert_eq!(answer.status, 400, "{field} = {value}: {}", answer.body);
        }
        for uuid in ["..", "a%2fb", "a%00b", "a b"] {
            let answer =
                verifier
                    .agents_port()
                    .send("POST", &format!("/v2.6/agents/{uuid}"), Some(&good));
            let refused = answer
                .as_ref()
                .map_or(true, |reply| (400..500).contains(&reply.status));
            assert!(refused, "{uuid}: {answer:?}");
        }
        Ok(())
    });
}

fn transport(client: &Client) -> Result<String> {
    let answer = client.get("/v2.6/keys/pubkey")?.results()?;
    Ok(answer["pubkey"].as_str().ok_or("no pubkey")?.to_owned())
}

fn wait_until_finished(client: &Client) -> Result {
    until(LIMIT, "finished payload", || {
        let outcome = client.get("/v2.6/payload/outcome").ok()?.results().ok()?;
        (outcome["stage"] == "finished").then_some(())
    })
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn plain_http_to_the_agent_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let answer = Client::plain(node.address(), node::PORT).get("/version");
        assert!(answer.is_err(), "{answer:?}");
        Ok(())
    });
}
