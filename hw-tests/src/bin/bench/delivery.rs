//! From the tenant's command to the end of the script on the node.

use hw_tests::Result;
use hw_tests::byhand::random;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::figure::{Budget, Figure, Runs};
use crate::meter::millis;

const RUNS: usize = 15;

/// What the payload holds beside the documented example.
const NOISE_BYTES: usize = 10 * 1024;

/// How long an operator waits for a secret to be in use.
///
/// # Errors
/// A program fails.
pub(crate) fn add_to_script_done(site: &Site) -> Result<Vec<Figure>> {
    let verifier = Verifier::start(site)?;
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let tenant = Tenant::beside(&verifier)?;
    let folder = tenant.work().join("payload");
    payload::documented(&folder)?;
    payload::write(&folder, "noise", &random::<NOISE_BYTES>()?, 0o600)?;
    let (ip, uuid) = (node.ip(), node.uuid()?);
    let add_and_delete = || -> Result<f64> {
        let told = tenant.does(&["-t", &ip, "--cert", "myca", "--include", "payload"])?;
        tenant.does(&["-c", "delete", "-u", &uuid])?;
        Ok(millis(told.took))
    };
    // The first makes the CA, and isn't counted.
    add_and_delete()?;
    let runs = Runs::of(RUNS, add_and_delete)?;
    Ok(vec![Figure {
        name: "add_to_script_done_ms",
        value: runs.median(),
        unit: "ms",
        budget: Budget::AtMost(150.0),
        how: format!(
            "keyhalf-tenant from exec to exit, which comes after the script's end: the documented example and 10 KiB of \
             noise, CA there, no passphrase, swtpm, loopback; {runs}"
        ),
    }])
}
