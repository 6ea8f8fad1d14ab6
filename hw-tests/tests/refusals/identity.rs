//! Keys that aren't the node's: another TPM, another EK, an AK that signs anything.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, enrolment};
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

use crate::{CLEAN, wait_for_state};

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
