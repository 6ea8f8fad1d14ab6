//! Payloads of any size, through a spool of ciphertext, over links that break.

use std::fs;

use hw_tests::byhand::random;
use hw_tests::payload;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::edge::{deposit, exit, has_nothing, reboot, registered, rotate};

/// What the stories send: several segments, and a last one that isn't whole.
const BYTES: usize = 5 * 1024 * 1024 + 123;

const HUNDRED_MEGABYTES: usize = 100_000_000;

/// One segment of 1 MiB, and 1 MB.
const VAULT_AND_ALLOWANCE: u64 = 1024 * 1024 + 1_000_000;

#[test]
fn broken_link_goes_on_where_it_stopped() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&tap, &tenant)?;
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
        rotate(&tenant, &uuid, &[])?;
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

/// A whole `provision` by its own account: the script reads what its parent has needed at most.
#[test]
fn hundred_megabytes_need_memory_for_one_segment() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&verifier, &tenant)?;
        let folder = tenant.work().join("payload");
        payload::script(
            &folder,
            "#!/bin/sh\ngrep VmHWM /proc/$PPID/status >/root/peak\n",
        )?;
        deposit(&tenant, &uuid, &[])?;
        let spool = node.machine().work().join("spool");
        let spool = spool.to_str().ok_or("a path that is no text")?.to_owned();
        let options = ["--spool-dir", &spool, "--secure-size", "256m"];
        let mut peak = || -> hw_tests::Result<u64> {
            let told = node.run(&[&options[..], &["--deadline", "60s"]].concat())?;
            assert_eq!(told.code, exit::DONE, "{}", told.text);
            let said = fs::read_to_string(node.machine().root().join("peak"))?;
            reboot(&node)?;
            let kib = said.split_whitespace().nth(1).ok_or("no peak")?;
            Ok(kib.parse::<u64>()? * 1024)
        };
        let small = peak()?;
        let noise = noise()?;
        for part in 0..HUNDRED_MEGABYTES.div_ceil(BYTES) {
            payload::write(&folder, &format!("noise-{part}"), &noise, 0o600)?;
        }
        rotate(&tenant, &uuid, &[])?;
        let large = peak()?;
        let more = large.saturating_sub(small);
        assert!(
            more <= VAULT_AND_ALLOWANCE,
            "{more} bytes more than {small}"
        );
        Ok(())
    });
}

#[test]
fn changed_spool_is_noticed() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&tap, &tenant)?;
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
