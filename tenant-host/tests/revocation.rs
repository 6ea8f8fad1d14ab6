//! `revoke`, `revocations`, `status` and `ca crl` against a verifier that is played: what they ask, and what they make of the answers.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod fake;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fake::{Answer, Fake, Log};
use serde_json::{Value, json};

const NODE: &str = "d432fbb3-d2f1-4a97-9ef7-75bd81c00000";

/// A directory with an authority, TLS files, and a node's certificate.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            root: tempfile::tempdir().unwrap(),
        };
        place.done("ca init -d myca --no-passphrase");
        place.done(&format!("ca create -d myca {NODE}"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, words: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keyhalf-tenant"))
            .args(shlex(words))
            .current_dir(self.root.path())
            .env("KEYLIME_DIR", self.root.path())
            .env_remove("KEYHALF_CA_PASSPHRASE")
            .output()
            .unwrap()
    }

    fn done(&self, words: &str) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what is to fail, and gives its exit code and what it says.
    fn fails(&self, words: &str) -> (i32, String) {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.done(words)).unwrap()
    }

    fn verifier(&self, answer: impl Fn(&fake::Request) -> Answer + Send + Sync + 'static) -> Fake {
        Fake::start(&self.path("cv_ca"), answer)
    }

    fn anchor(&self) -> String {
        let listed = self.json("ca list -d myca --json");
        listed["anchor"].as_str().unwrap().to_owned()
    }

    fn revoked(&self) -> Vec<u64> {
        let listed = self.json("ca list -d myca --json");
        let all = listed["certificates"].as_array().unwrap();
        all.iter()
            .filter(|issued| issued["state"] == "revoked")
            .map(|issued| issued["serial"].as_u64().unwrap())
            .collect()
    }
}

/// Words, with quotes around those that have blanks.
fn shlex(text: &str) -> Vec<String> {
    let parts = text.split('\'').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// The serial numbers on a list, by OpenSSL.
fn on_list(der: &[u8], directory: &Path) -> (String, Vec<String>) {
    let path = directory.join("sent.der");
    std::fs::write(&path, der).unwrap();
    let words = ["crl", "-inform", "DER", "-noout", "-text", "-in"];
    let output = Command::new("openssl").args(words).arg(&path).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let after = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        let _found = lines.by_ref().find(|line| line.starts_with(name));
        lines.next().unwrap_or_default().to_owned()
    };
    let serials = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Serial Number: "))
        .map(str::to_owned);
    (after("X509v3 CRL Number"), serials.collect())
}

/// What a verifier with one log answers.
fn answers(log: &Log, request: &fake::Request) -> Answer {
    let id = &log.log_id;
    let head = json!({ "log_id": id, "anchor": log.anchor, "group": null, "number": log.entries.len(), "crl_number": "40" });
    let path = request.path.strip_prefix("/v2.6/").unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET", path) if path == format!("agents/{NODE}") => {
            Answer::done(json!({ "operational_state": 9, "meta_data": "{}" }))
        }
        ("GET", "revocations") => Answer::done(json!({ "logs": [head] })),
        ("GET", path) if path.starts_with(&format!("revocations/{id}?after=")) => {
            let after: usize = path.rsplit('=').next().unwrap().parse().unwrap();
            let rest = log.entries.get(after..).unwrap_or_default();
            Answer::done(json!({ "entries": rest }))
        }
        ("GET", path) if path == format!("revocations/{id}/peers") => Answer::done(json!({
            "number": log.entries.len(), "peers": [
                { "agent_id": NODE, "state": "unreachable", "position": 0, "since": 5, "error": "refused" },
                { "agent_id": "peer", "state": "acted", "position": 1, "since": 5, "error": null },
            ],
        })),
        ("GET", path) if path.starts_with(&format!("revocations/{id}/")) => {
            let asked = log.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let state = if asked == 0 { "waiting" } else { "acted" };
            let actions = json!([{ "name": "update-crl", "exit_code": 0, "duration_ms": 2 }]);
            let peers = json!([
                { "agent_id": NODE, "state": "unreachable", "actions": [] },
                { "agent_id": "peer", "state": state, "actions": actions },
            ]);
            let mut entry = log.entries.first().cloned().unwrap_or_else(|| log.shape());
            entry["peers"] = peers;
            Answer::done(entry)
        }
        ("POST", "revocations") => Answer::done(json!({ "log_id": id, "number": 1 })),
        ("POST", "revocations/crl") => {
            Answer::done(json!({ "entries": [{ "log_id": id, "number": 2 }] }))
        }
        ("PUT" | "DELETE", "revocations/crl-signer") => Answer::done(json!({})),
        _ => Answer::no(404, "unknown"),
    }
}

#[test]
fn a_node_is_revoked_with_its_certificate() {
    let place = Place::new();
    let log = Log::of(&place.path("myca"), &place.anchor());
    let verifier = place.verifier(move |request| answers(&log, request));
    let reach = verifier.options();
    let revoke = format!("-c revoke -u {NODE} --reason 'its disk was stolen' --cert myca");
    let said = place.done(&format!("{revoke} --wait 20 {reach}"));
    assert!(said.contains("is revoked: entry 1"), "{said}");
    assert!(said.contains("acted: 1 of 1"), "{said}");
    let sent = verifier.bodies("POST", "/v2.6/revocations");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["agent_id"], NODE);
    assert_eq!(sent[0]["reason"], "its disk was stolen");
    let list = BASE64.decode(sent[0]["crl"].as_str().unwrap()).unwrap();
    let (number, serials) = on_list(&list, place.root.path());
    assert_eq!(
        (number.as_str(), serials),
        ("41", vec!["03".to_owned()]),
        "above the verifier's 40"
    );
    assert_eq!(place.revoked(), [3]);
    let said = place.done(&format!("{revoke} {reach}"));
    assert!(said.contains("`keyhalf-tenant -c revocations"), "{said}");
}

#[test]
fn what_the_verifier_does_not_take_is_no_success() {
    let place = Place::new();
    let keylime = place.verifier(|request| match request.path.contains("/agents/") {
        true => Answer::done(json!({ "operational_state": 3 })),
        false => Answer::no(405, "Not Implemented"),
    });
    let revoke = |verifier: &Fake, cert: &str| {
        let reach = verifier.options();
        place.fails(&format!(
            "-c revoke -u {NODE} --reason stolen {cert} {reach}"
        ))
    };
    for cert in ["", "--cert myca"] {
        let (code, said) = revoke(&keylime, cert);
        assert!(
            code == 4 && said.contains("keeps no revocation logs"),
            "{said}"
        );
    }
    assert!(place.revoked().is_empty(), "nothing was changed");
    let (code, said) = place.fails(&format!("-c revocations {}", keylime.options()));
    assert!(
        code == 4 && said.contains("keeps no revocation logs"),
        "{said}"
    );
    let unknown = place.verifier(|_| Answer::no(404, "agent id not found"));
    let (code, said) = revoke(&unknown, "--cert myca");
    assert!(code == 10 && said.contains("knows no node"), "{said}");
    assert!(place.revoked().is_empty(), "nothing was changed");
    let log = Log::of(&place.path("myca"), &place.anchor());
    let without_key = place.verifier(move |request| match request.method.as_str() {
        "POST" => Answer::no(409, "no revocation key"),
        _ => answers(&log, request),
    });
    let (code, said) = revoke(&without_key, "--cert myca");
    assert!(
        code == 10 && said.contains("no revocation key") && said.contains("run this again"),
        "{said}"
    );
    assert_eq!(place.revoked(), [3]);
    for reason in ["", "--reason ''", "--reason 'two\nlines'"] {
        let (code, _) = place.fails(&format!("-c revoke -u {NODE} {reason}"));
        assert_eq!(code, 2, "{reason}");
    }
}

#[test]
fn a_list_has_what_the_log_says_and_goes_to_the_verifier() {
    let place = Place::new();
    let mut log = Log::of(&place.path("myca"), &place.anchor());
    log.add(NODE, "3", "pcr_validation.invalid_pcr_7");
    let verifier = place.verifier(move |request| answers(&log, request));
    let reach = verifier.options();
    let done = place.json(&format!("ca crl -d myca --json -- {reach}"));
    assert_eq!(done["imported"][0]["serial"], 3);
    assert_eq!(
        (&done["crl_number"], &done["posted"]),
        (&json!(41), &json!(true))
    );
    let sent = verifier.bodies("POST", "/v2.6/revocations/crl");
    assert_eq!(sent[0]["anchor"], place.anchor().as_str());
    let list = BASE64.decode(sent[0]["crl"].as_str().unwrap()).unwrap();
    assert_eq!(on_list(&list, place.root.path()).1, ["03"]);
    let again = place.json(&format!("ca crl -d myca --json -- {reach}"));
    assert_eq!(
        (&again["imported"], &again["crl_number"]),
        (&json!([]), &json!(42))
    );
    drop(verifier);
    let (code, said) = place.fails(&format!("ca crl -d myca --post -- {reach}"));
    assert_eq!(code, 4, "{said}");
    let without = place.json(&format!("ca crl -d myca --json -- {reach}"));
    assert_eq!(
        (&without["posted"], &without["revoked"]),
        (&json!(false), &json!(1))
    );
}

#[test]
fn a_log_that_is_not_the_notifiers_is_not_believed() {
    let place = Place::new();
    let mut log = Log::of(&place.path("myca"), &place.anchor());
    log.add(NODE, "3", "it failed");
    let entry = &mut log.entries[0];
    entry["msg"] = entry["msg"]
        .as_str()
        .unwrap()
        .replace("failed", "passed")
        .into();
    let verifier = place.verifier(move |request| answers(&log, request));
    let (code, said) = place.fails(&format!("ca crl -d myca -- {}", verifier.options()));
    assert!(
        code == 3 && said.contains("isn't signed by this authority's notifier"),
        "{said}"
    );
    assert!(place.revoked().is_empty());
    assert!(verifier.bodies("POST", "/v2.6/revocations/crl").is_empty());
}

#[test]
fn who_has_acted_is_shown() {
    let place = Place::new();
    let mut log = Log::of(&place.path("myca"), &place.anchor());
    log.add(NODE, "3", "it failed");
    let verifier = place.verifier(move |request| answers(&log, request));
    let registrar = place.verifier(|_| Answer::no(404, "agent not found"));
    let reach = verifier.options();
    let said = place.done(&format!("-c revocations {reach}"));
    for line in [
        &format!("1  2026-11-26T02:17:00Z  {NODE} is revoked: it failed"),
        "acted: 0 of 1; waiting: peer",
        "peer: waiting: update-crl (exit code 0)",
        "unreachable, at entry 0 of 1, for ",
        "peer: acted, at entry 1 of 1",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    let about = place.json(&format!("-c revocations -u peer --json {reach}"));
    let log = &about["logs"][0];
    assert_eq!(
        (&log["entries"], log["peers"].as_array().unwrap().len()),
        (&json!([]), 1)
    );
    let nobody = place.done(&format!("-c revocations -u nobody {reach}"));
    assert!(nobody.contains("hold nothing"), "{nobody}");
    let status = format!(
        "-c status -u {NODE} {reach} {}",
        registrar.registrar_options()
    );
    let said = place.done(&status);
    for line in [
        "told of:   unreachable, at entry 0 of 1",
        "revoked:   entry 1",
        "acted: 1 of 1",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
}

#[test]
fn a_key_for_lists_is_lent_and_taken_back() {
    let place = Place::new();
    let log = Log::of(&place.path("myca"), &place.anchor());
    let verifier = place.verifier(move |request| answers(&log, request));
    let reach = verifier.options();
    let lent = place.json(&format!(
        "ca delegate-crl -d myca --days 7 --json -- {reach}"
    ));
    assert_eq!(
        (&lent["serial"], &lent["posted"]),
        (&json!(4), &json!(true))
    );
    let sent = verifier.bodies("PUT", "/v2.6/revocations/crl-signer");
    assert_eq!(sent[0]["anchor"], place.anchor().as_str());
    let text = |name: &str| sent[0][name].as_str().unwrap().to_owned();
    assert!(text("certificate").starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(text("key").starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!place.path("myca/CrlSigner-private.pem").exists());
    let back = place.json(&format!(
        "ca delegate-crl -d myca --withdraw --json -- {reach}"
    ));
    assert_eq!(
        (&back["withdrawn"], &back["crl_number"]),
        (&json!(true), &json!(41))
    );
    assert_eq!(place.revoked(), [4]);
    assert_eq!(
        verifier
            .bodies("DELETE", "/v2.6/revocations/crl-signer")
            .len(),
        1
    );
    assert_eq!(verifier.bodies("POST", "/v2.6/revocations/crl").len(), 1);
    let keylime = place.verifier(|_| Answer::no(405, "Not Implemented"));
    let (code, _) = place.fails(&format!("ca delegate-crl -d myca -- {}", keylime.options()));
    assert_eq!(
        (code, place.revoked()),
        (4, vec![4]),
        "no key is made for nobody"
    );
}
