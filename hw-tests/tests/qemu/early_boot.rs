//! What the stories of `provision` in a real boot lean on: a guest whose initramfs runs `keyhalf-boot`, and its tenant.

use std::path::PathBuf;

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::Boot;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::payload;
use hw_tests::servers::Servers;
use hw_tests::tenant::Tenant;

/// How the agent's exit codes read.
pub(crate) mod exit {
    pub(crate) const DONE: i32 = 0;
    pub(crate) const NO_NETWORK: i32 = 11;
    pub(crate) const NOT_ACCEPTED: i32 = 12;
    pub(crate) const REFUSED: i32 = 13;
    pub(crate) const BAD_PAYLOAD: i32 = 14;
    pub(crate) const DEADLINE: i32 = 16;
}

/// A PCR that nothing was measured into, as a policy has it.
pub(crate) const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The PCR that is extended by the cap.
pub(crate) const CAP_PCR: u8 = 15;

/// A node that has booted once.
pub(crate) struct Known {
    pub(crate) uuid: String,
    /// What its firmware measured, as a policy.
    pub(crate) policy: String,
}

/// A guest whose image knows its verifier and its tenant, and that nobody has registered yet.
pub(crate) fn install<'site>(
    servers: &impl Servers<'site>,
    tenant: &Tenant<'_>,
    tpm: GuestTpm,
) -> Result<Guest<'site>> {
    Guest::provisioning(servers, &signer(tenant)?, tpm)
}

/// Makes the tenant's CA and its signing certificate.
pub(crate) fn signer(tenant: &Tenant<'_>) -> Result<PathBuf> {
    tenant.does(&["-c", "signer", "--cert", "myca"])?;
    Ok(tenant.work().join("myca/PayloadSigner-cert.crt"))
}

/// Boots a guest for the first time, until it is registered.
pub(crate) fn introduce(guest: &Guest<'_>) -> Result<Known> {
    let mut boot = guest.boot()?;
    let uuid = boot.wait_until_registered()?;
    let policy = measured(&mut boot)?;
    boot.power_off()?;
    Ok(Known { uuid, policy })
}

/// A policy that wants what was measured in this boot: SeaBIOS measures itself to PCR 0, OVMF the kernel to PCR 4, its command
/// line and initramfs to PCR 9.
pub(crate) fn measured(boot: &mut Boot) -> Result<String> {
    let (firmware, kernel, rest) = (boot.pcr(0)?, boot.pcr(4)?, boot.pcr(9)?);
    Ok(format!(
        r#"{{"0": "{firmware}", "4": "{kernel}", "9": "{rest}"}}"#
    ))
}

/// Deposits the documented payload for a node.
pub(crate) fn deposit(tenant: &Tenant<'_>, node: &Known) -> Result {
    deposit_with(tenant, node, payload::DOCUMENTED_SCRIPT)
}

/// As [`deposit`], with another script in it.
pub(crate) fn deposit_with(tenant: &Tenant<'_>, node: &Known, script: &str) -> Result {
    payload::documented(&tenant.work().join("payload"))?;
    payload::script(&tenant.work().join("payload"), script)?;
    deposit_folder(tenant, &node.uuid, &["--tpm_policy", &node.policy])
}

/// Deposits the documented payload for a node by the policies of these options.
pub(crate) fn deposit_by(tenant: &Tenant<'_>, uuid: &str, policies: &[&str]) -> Result {
    payload::documented(&tenant.work().join("payload"))?;
    deposit_folder(tenant, uuid, policies)
}

fn deposit_folder(tenant: &Tenant<'_>, uuid: &str, policies: &[&str]) -> Result {
    let usual = ["-c", "add", "-u", uuid, "--push-model"];
    let what = ["--cert", "myca", "--include", "payload"];
    tenant.does(&[&usual[..], &what, policies].concat())?;
    Ok(())
}

/// Wants the agent to end with this code.
pub(crate) fn ends(boot: &Boot, code: i32) -> Result {
    let line = boot.says(ENDED)?;
    if line.trim_end().ends_with(&format!("{ENDED}{code}")) {
        return Ok(());
    }
    Err(format!("not with {code}: {line}").into())
}

/// Wants that this boot gets nothing more, whatever asks.
pub(crate) fn is_capped(boot: &mut Boot) -> Result {
    assert_ne!(boot.pcr(CAP_PCR)?, ZERO, "this boot isn't capped");
    Ok(())
}

/// Wants the secret where the payload's script put it, and the payload in the landing zone.
pub(crate) fn has_the_secret(boot: &mut Boot) -> Result {
    crate::steps::has_the_secret(boot)?;
    let landed = boot.does("cat /run/keyhalf/secure/unzipped/payload_id_rsa")?;
    assert_eq!(landed, payload::SECRET);
    Ok(())
}

/// Wants no byte of a payload in the guest.
pub(crate) fn has_nothing(boot: &mut Boot) -> Result {
    // The agent's journal of revocations is begun before there is anything to note.
    let found = boot.does("find /root /run/keyhalf /tmp -type f -size +0c 2>/dev/null || true")?;
    assert_eq!(found, "");
    Ok(())
}

/// Boots, and gets the secret.
pub(crate) fn gets_the_secret(guest: &Guest<'_>) -> Result {
    let mut boot = guest.boot()?;
    ends(&boot, exit::DONE)?;
    has_the_secret(&mut boot)?;
    boot.power_off()
}

/// Asks once more, as root in a shell; how that ended.
pub(crate) fn asks_again(boot: &mut Boot) -> Result<hw_tests::tenant::Told> {
    boot.shell(
        "keyhalf-agent provision --config /etc/keyhalf/agent.conf --landing-dir /run/again --deadline 20s \
         --tenant-signer /etc/keyhalf/tenant-signer.pem --verifier-tls-ca-cert /etc/keyhalf/verifier-ca.pem",
    )
}

/// Seconds from the agent's start until the console says `text`. Two clocks are asked, and the lesser counts: the host's has
/// its own delays in it, and the guest's goes wrong where the host was too busy when the kernel measured its processor.
pub(crate) fn from_agents_start(boot: &Boot, text: &str) -> Result<f64> {
    let guests = seconds(&boot.says(text)?)? - seconds(&boot.says(STARTS)?)?;
    let moment = |text| boot.console().moment(text).ok_or("a line that is gone");
    let hosts = moment(text)?.duration_since(moment(STARTS)?);
    Ok(guests.min(hosts.as_secs_f64()))
}

/// The kernel's time at the beginning of a line: `[    4.123456] ...`.
fn seconds(line: &str) -> Result<f64> {
    let time = line.split(['[', ']']).nth(1).unwrap_or_default().trim();
    let time = time.parse();
    time.map_err(|_| format!("no time at the beginning of {line:?}").into())
}

/// What init says before it starts the agent.
const STARTS: &str = "guest: the agent starts";

/// What init says as the agent, or the script around it, has ended.
pub(crate) const ENDED: &str = "guest: the agent ended with ";
