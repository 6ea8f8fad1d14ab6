//! The verifier can't read what it keeps: all that it has, and all that it heard, opens nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use agent_core::payload::halves::Key;
use agent_core::payload::segment::{self, Binding, Segments};
use agent_core::wire::manifest::Manifest;
use agent_core::wire::text::parse_hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::relay::Exchange;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::{Tap, Wiretap};
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::edge::{deposit, documented, exit, install, register};

type Candidate = [u8; 32];

#[test]
fn verifier_reads_nothing() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let (uuid, heard, tpm) = {
            let wire = Wiretap::before(&verifier)?;
            let (tpm, other) = (Swtpm::fresh(site)?, Swtpm::fresh(site)?);
            let tenant = Tenant::beside(&verifier)?;
            let mut node = install(&wire, &tenant, tpm)?;
            let uuid = register(&mut node)?;
            documented(&tenant)?;
            let desk = Tap::before(&verifier)?;
            let registrar = verifier.address().to_string();
            let tapped = Tenant::beside(&desk)?.with("registrar_ip", &registrar);
            deposit(&tapped, &uuid, &[])?;
            let told = node.run(&[])?;
            assert_eq!(told.code, exit::DONE, "{}", told.text);
            let mut heard = wire.relay().heard();
            heard.extend(desk.heard());
            let blob = member(&heard, "u_blob")?;
            assert!(activate(&other, &blob).is_err(), "U opens on another TPM");
            let u = activate(node.tpm(), &blob)?;
            (uuid, heard, u)
        };
        verifier.stop()?;
        let manifest = member(&heard, "manifest")?;
        let sealed = heard
            .iter()
            .find(|one| one.method == "GET" && one.path.ends_with("/sealed"))
            .ok_or("nothing was fetched")?;
        let lock = Lock::new(&manifest, &sealed.answer.bytes)?;
        assert!(
            manifest
                .windows(uuid.len())
                .any(|text| text == uuid.as_bytes())
        );

        let mut known = BTreeSet::new();
        for exchange in &heard {
            collect(&exchange.body, &mut known);
            collect(&exchange.answer.body, &mut known);
        }
        let v: Candidate = member(&heard, "v")?
            .try_into()
            .map_err(|_| "V has no 32 bytes")?;
        assert!(known.contains(&v), "V was not seen by those who look");

        // Who has U, by the TPM of this node, has K: so this test would find it.
        let u: Candidate = tpm.try_into().map_err(|_| "U has no 32 bytes")?;
        assert!(lock.opens(&xor(&u, &v)), "the test can't open with K");
        assert!(!known.contains(&u), "U was on the wire");

        let all: Vec<Candidate> = known.iter().copied().collect();
        for (n, one) in all.iter().enumerate() {
            assert!(!lock.opens(one), "a string opens the payload");
            for other in &all[n + 1..] {
                assert!(
                    !lock.opens(&xor(one, other)),
                    "two strings open the payload"
                );
            }
        }
        // Each 32 bytes of what lies on the verifier's disk, as they are and with V.
        for file in files(&verifier.machine().keylime())? {
            for window in fs::read(&file)?.windows(32) {
                let one: Candidate = window.try_into()?;
                let found = lock.opens(&one) || lock.opens(&xor(&one, &v));
                assert!(!found, "{} opens the payload", file.display());
            }
        }
        Ok(())
    });
}

/// A sealed payload's first segment, to be tried with any key.
struct Lock {
    manifest: Manifest,
    segments: Segments,
    first: Vec<u8>,
}

impl Lock {
    fn new(manifest: &[u8], sealed: &[u8]) -> Result<Self> {
        let manifest = Manifest::parse(manifest)?;
        let segments = Segments::of_sealed(manifest.sealed_bytes).ok_or("no size of a payload")?;
        let (_, length) = segments.place(0).ok_or("no first segment")?;
        Ok(Self {
            manifest,
            segments,
            first: sealed.get(..length).ok_or("too short")?.to_vec(),
        })
    }

    fn opens(&self, key: &Candidate) -> bool {
        let binding = Binding {
            agent: &self.manifest.agent,
            payload_id: self.manifest.payload_id,
            count: self.segments.count(),
        };
        let key = Key::from_slice(key).unwrap();
        segment::open(&key, &binding, 0, &mut self.first.clone()).is_ok()
    }
}

fn xor(one: &Candidate, other: &Candidate) -> Candidate {
    let mut both = *one;
    for (to, from) in both.iter_mut().zip(other) {
        *to ^= from;
    }
    both
}

/// Every 32 bytes that a JSON text has, in base64 or hex; of longer values each piece of them.
fn collect(text: &str, known: &mut BTreeSet<Candidate>) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let mut values = vec![&value];
    while let Some(value) = values.pop() {
        match value {
            Value::Array(items) => values.extend(items),
            Value::Object(members) => values.extend(members.values()),
            Value::String(text) => {
                known.extend(parse_hex::<32>(text.as_bytes()));
                let bytes = BASE64.decode(text).unwrap_or_default();
                if let Ok(whole) = Candidate::try_from(bytes.as_slice()) {
                    known.insert(whole);
                } else if bytes.len() < 128 {
                    known.extend(
                        bytes
                            .chunks_exact(16)
                            .zip(bytes.chunks_exact(16).skip(1))
                            .map(|(one, other)| {
                                let mut both = [0; 32];
                                both[..16].copy_from_slice(one);
                                both[16..].copy_from_slice(other);
                                both
                            }),
                    );
                }
            }
            _ => {}
        }
    }
}

/// The last value of a base64 member that anybody sent or answered.
fn member(heard: &[Exchange], name: &str) -> Result<Vec<u8>> {
    let texts = heard
        .iter()
        .rev()
        .flat_map(|one| [&one.body, &one.answer.body]);
    let mut values = texts.filter_map(|text| {
        let value: Value = serde_json::from_str(text).ok()?;
        let bytes = BASE64.decode(value[name].as_str()?).ok()?;
        // On its way to the agent V is wrapped.
        (name != "v" || bytes.len() == 32).then_some(bytes)
    });
    values
        .next()
        .ok_or_else(|| format!("nobody said {name}").into())
}

/// TPM2_ActivateCredential by programs that aren't ours.
fn activate(tpm: &Swtpm, blob: &[u8]) -> Result<Vec<u8>> {
    let magic = b"\xBA\xDC\xC0\xDE\x00\x00\x00\x01";
    fs::write(tpm.dir().join("blob"), [&magic[..], blob].concat())?;
    // TPMS_ECC_POINT as tpm2-tools read it: two sizes of this machine's byte order, each before 128 bytes.
    let unique = b"keyhalf ak 1";
    let mut coordinate = vec![u8::try_from(unique.len())?, 0];
    coordinate.extend(unique);
    coordinate.resize(2 + 128, 0);
    fs::write(tpm.dir().join("unique"), coordinate.repeat(2))?;
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let flush = || tpm.tool("tpm2_flushcontext", &["-t"]);
    tpm.tool("tpm2_createek", &["-c", "ek.ctx", "-G", "rsa"])?;
    flush()?;
    let ak = [
        "-C",
        "e",
        "-G",
        "ecc256:ecdsa-sha256:null",
        "-g",
        "sha256",
        "-a",
        attributes,
    ];
    tpm.tool(
        "tpm2_createprimary",
        &[&ak[..], &["-u", "unique", "-c", "ak.ctx"]].concat(),
    )?;
    flush()?;
    tpm.tool(
        "tpm2_startauthsession",
        &["--policy-session", "-S", "session"],
    )?;
    tpm.tool("tpm2_policysecret", &["-S", "session", "-c", "endorsement"])?;
    let keys = ["-c", "ak.ctx", "-C", "ek.ctx", "-i", "blob", "-o", "opened"];
    let opened = tpm.tool(
        "tpm2_activatecredential",
        &[&keys[..], &["-P", "session:session"]].concat(),
    );
    tpm.tool("tpm2_flushcontext", &["session"])?;
    flush()?;
    opened?;
    Ok(fs::read(tpm.dir().join("opened"))?)
}

/// Every file below a directory.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
