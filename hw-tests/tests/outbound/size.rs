//! Payloads of any size, through a spool of ciphertext, over links that break.

use std::fs;

use hw_tests::byhand::random;
use hw_tests::payload;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::edge::{deposit, exit, has_nothing, install, reboot, register};

/// What the stories send: several segments, and a last one that isn't whole.
const BYTES: usize = 5 * 1024 * 1024 + 123;

#[test]
fn broken_link_goes_on_where_it_stopped() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&tap, &tenant, Swtpm::fresh(site)?)?;
        let uuid = register(&mut node)?;
        let noise = noise()?;
        payload::write(&tenant.work().join("payload"), "noise", &noise, 0o600)?;
        deposit(&tenant, &uuid, &["--script", "none"])?;
        let spool = node.machine().work().join("spool");
        let spool = spool.to_str().ok_or("a path that is no text")?.to_owned();

        // In this boot: each answer breaks off after a bit more than a MiB.
        cut_sealed(&tap, 1_200_000);
        let options = ["--spool-dir", &spool, "--secure-size", "32m"];
        let told = node.run(&options)?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        let unzipped = node.machine().inside("/run/keyhalf/secure/unzipped/noise");
        assert_eq!(fs::read(unzipped)?, noise);
        let ranges = tap.relay().heard();
        let pieces: Vec<_> = ranges.iter().filter(|one| is_sealed(&one.path)).collect();
        assert!(pieces.len() >= 5, "{} pieces", pieces.len());
        assert!(pieces.iter().skip(1).all(|one| one.answer.status == 206));

        // In the next one: what came in a boot that ran out of time is still there.
        let sent = tap.relay().heard().len();
        payload::write(&tenant.work().join("payload"), "noise", &noise, 0o600)?;
        tenant.does(&[
            "-c",
            "rotate",
            "-u",
            &uuid,
            "--cert",
            "myca",
            "--include",
            "payload",
        ])?;
        reboot(&node)?;
        cut_sealed_then_nothing(&tap, 2_500_000);
        let told = node.run(&[&options[..], &["--deadline", "3s"]].concat())?;
        assert_ne!(told.code, exit::DONE, "{}", told.text);
        assert!(has_nothing(&node));
        reboot(&node)?;
        tap.relay().now_tells(hw_tests::relay::honest());
        let told = node.run(&options)?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        let heard = tap.relay().heard();
        let last = heard.iter().skip(sent).rfind(|one| is_sealed(&one.path));
        let last = last.ok_or("nothing was fetched")?;
        assert_eq!(last.answer.status, 206);
        assert!(last.answer.bytes.len() < BYTES - 2_000_000);
        Ok(())
    });
}

#[test]
fn changed_spool_is_noticed() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&tap, &tenant, Swtpm::fresh(site)?)?;
        let uuid = register(&mut node)?;
        payload::write(&tenant.work().join("payload"), "noise", &noise()?, 0o600)?;
        deposit(&tenant, &uuid, &["--script", "none"])?;
        // The verifier's bytes are others than the tenant has signed.
        tap.relay().now_tells(Box::new(|path, truth| {
            if !is_sealed(path) || truth.bytes.is_empty() {
                return truth;
            }
            let mut bytes = truth.bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            truth.with_bytes(bytes)
        }));
        let spool = node.machine().work().join("spool");
        let spool = spool.to_str().ok_or("a path that is no text")?.to_owned();
        let told = node.run(&["--spool-dir", &spool, "--deadline", "5s"])?;
        assert_eq!(told.code, exit::BAD_PAYLOAD, "{}", told.text);
        assert!(has_nothing(&node));
        Ok(())
    });
}

fn is_sealed(path: &str) -> bool {
    path.ends_with("/sealed")
}

fn cut_sealed<'s, S: hw_tests::servers::Servers<'s>>(tap: &Wiretap<'_, 's, S>, after: usize) {
    tap.relay().now_tells(Box::new(move |path, mut truth| {
        if is_sealed(path) && truth.bytes.len() > after {
            truth.cut_after = Some(after);
        }
        truth
    }));
}

/// The first answer breaks off, and no other one begins.
fn cut_sealed_then_nothing<'s, S: hw_tests::servers::Servers<'s>>(
    tap: &Wiretap<'_, 's, S>,
    after: usize,
) {
    let mut cut = Some(after);
    tap.relay().now_tells(Box::new(move |path, mut truth| {
        if is_sealed(path) {
            truth.cut_after = Some(cut.take().unwrap_or(0));
        }
        truth
    }));
}

/// What doesn't compress.
fn noise() -> hw_tests::Result<Vec<u8>> {
    let mut noise = Vec::with_capacity(BYTES);
    while noise.len() < BYTES {
        noise.extend(random::<4096>()?);
    }
    noise.truncate(BYTES);
    Ok(noise)
}
