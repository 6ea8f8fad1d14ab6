//! What early boot waits for, and pays for on the wire, to get its secret.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hw_tests::Result;
use hw_tests::byhand::random;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::servers::{Servers, VERIFIER_PORT, Verifier};
use hw_tests::site::{Site, fresh_address};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::agent::way_into_the_machine;
use crate::figure::{Budget, Figure, Runs};
use crate::meter::millis;

const RUNS: usize = 15;

/// What the payload holds beside its script.
const NOISE_BYTES: usize = 10 * 1024;

/// Boots of a registered node with a deposit: time, and bytes.
///
/// # Errors
/// A program fails.
pub(crate) fn provision(site: &Site) -> Result<Vec<Figure>> {
    // No boot waits because others came shortly before it.
    let verifier = Verifier::start_with(site, &["--quote-interval", "0.01"])?;
    let meter = WireMeter::before((Servers::verifier(&verifier), VERIFIER_PORT).into())?;
    let tenant = Tenant::beside(&verifier)?;
    tenant.does(&["-c", "signer", "--cert", "myca"])?;
    let signer = tenant.work().join("myca/PayloadSigner-cert.crt");
    let server = verifier.ca_file("server-cert.crt");
    let url = format!("https://{}", meter.address);
    let options = [
        "--tenant-signer",
        signer.to_str().ok_or("a path that is no text")?,
        "--verifier-cert",
        server.to_str().ok_or("a path that is no text")?,
        "--verifier-url",
        &url,
    ];
    // Without a certificate for RSA the endorsement key is P-256.
    let tpm = Swtpm::without_certificate(site)?;
    let mut node = Node::calling(&verifier, tpm, "provision", &options)?;
    let told = node.run(&["--deadline", "1s"])?;
    let (_, rest) = told.text.split_once("registered as ").ok_or("no uuid")?;
    let uuid = rest.split_whitespace().next().ok_or("no uuid")?.to_owned();

    let folder = tenant.work().join("payload");
    payload::script(&folder, "#!/bin/sh\nexit 0\n")?;
    payload::write(&folder, "noise", &random::<NOISE_BYTES>()?, 0o600)?;
    let policy = format!(r#"{{"0": "{}"}}"#, "0".repeat(64));
    let add = ["-c", "add", "-u", &uuid, "--push-model", "--cert", "myca"];
    let what = ["--include", "payload", "--tpm_policy", &policy];
    tenant.does(&[&add[..], &what].concat())?;
    let sealed = verifier
        .client()?
        .get(&format!("/v3.0/agents/{uuid}/payload"))?
        .json()?["deposit"]["sealed_bytes"]
        .as_f64()
        .ok_or("no size")?;

    let way_in = way_into_the_machine(&node)?;
    let (mut overhead, mut by_tpm, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        node.machine().forget()?;
        node.tpm().reboot()?;
        let (tpm_before, bytes_before) = (node.tpm().tally().time(), meter.bytes());
        let told = node.run(&[])?;
        if told.code != 0 {
            return Err(format!("provision ended with {}:\n{}", told.code, told.text).into());
        }
        let tpm = node.tpm().tally().time().saturating_sub(tpm_before);
        overhead.push(millis(told.took.saturating_sub(tpm + way_in)));
        by_tpm.push(millis(tpm));
        bytes.push((meter.bytes() - bytes_before) as f64 - sealed);
    }
    let (overhead, by_tpm) = (Runs::from(overhead), Runs::from(by_tpm));
    let bytes = Runs::from(bytes);
    Ok(vec![
        Figure {
            name: "provision_overhead_ms",
            value: overhead.median(),
            unit: "ms",
            budget: Budget::AtMost(25.0),
            how: format!(
                "keyhalf-agent provision of a registered node with keys on P-256, from exec to exit, script included: wall \
                 time less the TPM's own ({:.1} ms), and less what nsenter and env take ({:.1} ms); a payload of 10 KiB, \
                 swtpm, loopback; {overhead}",
                by_tpm.median(),
                millis(way_in)
            ),
        },
        Figure {
            name: "provision_bytes_on_wire",
            value: bytes.median(),
            unit: "bytes",
            budget: Budget::AtMost(24.0 * 1024.0),
            how: format!(
                "bytes of TCP in both directions, TLS and its handshake included, less the sealed payload; {bytes}"
            ),
        },
    ])
}

/// Passes bytes on, and counts them.
struct WireMeter {
    address: SocketAddr,
    count: Arc<AtomicU64>,
}

impl WireMeter {
    fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((fresh_address(), VERIFIER_PORT))?;
        let (address, count) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let counting = Arc::clone(&count);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    let count = Arc::clone(&counting);
                    thread::spawn(move || pass(from, to, &count));
                }
            }
        });
        Ok(Self { address, count })
    }

    fn bytes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let _slower_without = to.set_nodelay(true);
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _gone_already = to.shutdown(Shutdown::Write);
}
