//! Revocation lists: made when a node fails, carried by the log, put in place, and believed by OpenSSL.

use std::fs;
use std::path::Path;
use std::process::Command;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};

use crate::peers::{between, entries, fail, noted, outcomes, wait_until_heard};

/// The operator revokes: the tenant's own list travels in the entry.
#[test]
fn revoked_certificate_is_refused_on_every_peer() {
    between(|verifier, tenant, bad, peer| {
        let certificate = certificate_of(&bad)?;
        assert!(openssl_believes(&peer, &certificate)?);
        let words = [
            "-c",
            "revoke",
            "-u",
            &bad.uuid()?,
            "--reason",
            "stolen",
            "--cert",
            "myca",
        ];
        tenant.does(&words)?;
        let actions = outcomes(verifier, 1, &peer.uuid()?)?;
        assert_eq!(actions[0]["name"], "update-crl", "{actions:?}");
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        assert!(!openssl_believes(&peer, &certificate)?);
        assert!(openssl_believes(&peer, &certificate_of(&peer)?)?);
        // The registrar's plain port has the same list for everybody.
        let served = verifier.agents_port().get("/crl.der")?;
        assert_eq!(served.status, 200);
        assert_eq!(served.bytes, fs::read(peer.unzipped("cacrl.der"))?);
        Ok(())
    });
}

/// A node fails by itself, nobody is there to sign: the list follows as an entry of its own, and no user's action takes it for
/// a revocation.
#[test]
fn list_follows_when_the_tenant_signs_it() {
    between(|verifier, tenant, bad, peer| {
        let certificate = certificate_of(&bad)?;
        fail(&bad)?;
        wait_until_heard(&peer, &[noted(1, &bad)?])?;
        assert!(openssl_believes(&peer, &certificate)?);
        tenant.does(&["ca", "crl", "--cert", "myca"])?;
        let actions = outcomes(verifier, 2, &peer.uuid()?)?;
        assert_eq!(actions.len(), 1, "{actions:?}");
        assert_eq!(actions[0]["name"], "update-crl", "{actions:?}");
        assert!(!openssl_believes(&peer, &certificate)?);
        wait_until_heard(&peer, &[noted(1, &bad)?])
    });
}

/// With a delegate the verifier signs at once.
#[test]
fn delegate_signs_at_once() {
    between(|verifier, tenant, bad, peer| {
        tenant.does(&["ca", "delegate-crl", "--cert", "myca"])?;
        fail(&bad)?;
        let actions = outcomes(verifier, 1, &peer.uuid()?)?;
        assert_eq!(actions[0]["name"], "update-crl", "{actions:?}");
        assert_eq!(actions[0]["exit_code"], 0, "{actions:?}");
        let text = openssl(&[
            "crl",
            "-inform",
            "DER",
            "-noout",
            "-text",
            "-in",
            path(&peer.unzipped("cacrl.der"))?,
        ])?;
        assert!(text.contains("Serial Number"), "{text}");
        assert_eq!(entries(verifier)?.len(), 1);
        Ok(())
    });
}

fn certificate_of(node: &Node<'_>) -> Result<std::path::PathBuf> {
    let uuid = node.uuid()?;
    let path = node.unzipped(&format!("{uuid}-cert.crt"));
    until(LIMIT, "the node's certificate", || {
        path.exists().then(|| path.clone())
    })
}

/// Whether OpenSSL takes a certificate, by what lies in a node's landing zone.
fn openssl_believes(peer: &Node<'_>, certificate: &Path) -> Result<bool> {
    let (ca, crl) = (peer.unzipped("cacert.crt"), peer.unzipped("cacrl.pem"));
    let words = [
        "verify",
        "-crl_check",
        "-CAfile",
        path(&ca)?,
        "-CRLfile",
        path(&crl)?,
        path(certificate)?,
    ];
    let output = Command::new("openssl").args(words).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.success() {
        true => Ok(true),
        false if said.contains("certificate revoked") => Ok(false),
        false => Err(said.into()),
    }
}

fn openssl(words: &[&str]) -> Result<String> {
    let output = Command::new("openssl").args(words).output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn path(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}
