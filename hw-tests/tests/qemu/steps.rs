//! What several stories do.

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::Boot;
use hw_tests::guest::network::reachable_address;
use hw_tests::payload::{self, SECRET};
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::tenant::{Tenant, Told};

/// A verifier that guests can call.
pub(crate) fn verifier(site: &Site) -> Result<Verifier<'_>> {
    Verifier::start_at(site, reachable_address()?, &[])
}

/// Adds the node with the documented payload and a policy, and returns how the tenant's program ended.
pub(crate) fn give(verifier: &Verifier<'_>, guest: &Guest<'_>, policy: &str) -> Result<Told> {
    give_by(verifier, guest, &["--tpm_policy", policy])
}

/// As [`give`], by the policies of these options.
pub(crate) fn give_by(
    verifier: &Verifier<'_>,
    guest: &Guest<'_>,
    policies: &[&str],
) -> Result<Told> {
    let tenant = Tenant::beside(verifier)?;
    payload::documented(&tenant.work().join("payload"))?;
    let (ip, what) = (guest.ip(), ["--cert", "myca", "--include", "payload"]);
    tenant.run(&[&["-t", &ip], &what[..], policies].concat())
}

/// Takes the node off the verifier, which keeps nothing of it.
pub(crate) fn take_back(verifier: &Verifier<'_>, uuid: &str) -> Result {
    Tenant::beside(verifier)?.does(&["-c", "delete", "-u", uuid])?;
    Ok(())
}

/// Wants the documented payload where its script puts it.
pub(crate) fn has_the_secret(boot: &mut Boot) -> Result {
    assert_eq!(boot.does("cat /root/.ssh/payload_id_rsa")?, SECRET);
    let mode = boot.does("stat -c %a /root/.ssh/payload_id_rsa")?;
    assert_eq!(mode.trim(), "600");
    Ok(())
}

/// Wants no byte of a payload in the guest.
pub(crate) fn has_nothing(boot: &mut Boot) -> Result {
    // What it hears of revocations, its own maybe, is kept there.
    let files = "find /root /var/lib/keylime/secure -type f ! -path '*/secure/revocations/*'";
    assert_eq!(boot.does(files)?, "");
    let secret = format!("grep -rl {SECRET} /var/lib/keylime/secure || true");
    assert_eq!(boot.does(&secret)?, "");
    Ok(())
}
