//! What was said in a good boot, kept by whoever holds the host: it opens nothing in a later boot, nothing under another system
//! on the same TPM, and the verifier takes none of it twice.

use hw_tests::Result;
use hw_tests::guest::boot::{Boot, Firmware};
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::guest::{Guest, configuration, verifier_word};
use hw_tests::node::Build;
use hw_tests::relay::{Exchange, Lie, honest};
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::{programs, story};
use hw_tests::tap::{Wiretap, takes_nothing_again};
use hw_tests::tenant::Tenant;

use crate::early_boot::{
    asks_again, deposit, ends, exit, has_nothing, has_the_secret, install, introduce, is_capped,
    signer,
};
use crate::steps::verifier;

#[test]
fn recorded_release_opens_nothing_later() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tap = Wiretap::before_at(&verifier, reachable_address()?)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&tap, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;
        let recorded = good_boot(&tap, &guest)?;
        takes_nothing_again(&verifier, &recorded)?;

        guest.append("keyhalf.deadline=15s");
        // The verifier's part from the first word to the last; then what hands out the payload alone, and the rest is true.
        for lie in [all_of(recorded.clone()), payload_of(recorded)] {
            tap.relay().now_tells(lie);
            let mut boot = guest.boot()?;
            ends(&boot, exit::BAD_PAYLOAD)?;
            has_nothing(&mut boot)?;
            is_capped(&mut boot)?;
            boot.power_off()?;
        }
        tap.relay().now_tells(honest());
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        has_the_secret(&mut boot)
    });
}

/// Whoever holds the machine boots a system of their own on it: their initramfs, root from the start, the node's TPM, its
/// image's files and the agent.
#[test]
fn other_system_same_tpm_gets_nothing() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tap = Wiretap::before_at(&verifier, reachable_address()?)?;
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&tap, &tenant, tpm)?.with_firmware(Firmware::Uefi);
        let node = introduce(&guest)?;
        deposit(&tenant, &node)?;
        let recorded = good_boot(&tap, &guest)?;

        let same = GuestTpm::at(site, guest.tpm().dir().to_owned());
        let mut other = Guest::new(site, same)?.with_firmware(Firmware::Uefi);
        for (name, content) in configuration(&tap, &signer(&tenant)?)? {
            let path = format!("/etc/{name}");
            other.initramfs().file(&path, 0o644, content)?;
        }
        let agent = std::fs::read(programs()?.join(Build::Static.program()))?;
        other.initramfs().file("/bin/keyhalf-agent", 0o755, agent)?;
        other.append(&verifier_word(Servers::verifier(&tap)));

        let mut boot = other.boot()?;
        asks_for_nothing(&mut boot, exit::REFUSED, "PCR")?;
        boot.power_off()?;
        let status = tenant.run(&["-c", "status", "-u", &node.uuid])?;
        status.says(&["PCR"])?;

        tap.relay().now_tells(all_of(recorded));
        let mut boot = other.boot()?;
        asks_for_nothing(&mut boot, exit::BAD_PAYLOAD, "half")?;
        boot.power_off()
    });
}

/// Asks by hand, and wants that this ends so and brings nothing.
fn asks_for_nothing(boot: &mut Boot, code: i32, said: &str) -> Result {
    let told = asks_again(boot)?;
    assert_eq!(told.code, code, "{}", told.text);
    told.says(&[said])?;
    has_nothing(boot)?;
    assert_eq!(boot.does("find /run/again -type f")?, "");
    Ok(())
}

/// A boot that gets its secret, and all that node and verifier said to each other.
fn good_boot<'site>(
    tap: &Wiretap<'_, 'site, Verifier<'site>>,
    guest: &Guest<'_>,
) -> Result<Vec<Exchange>> {
    let before = tap.relay().heard().len();
    let mut boot = guest.boot()?;
    ends(&boot, exit::DONE)?;
    has_the_secret(&mut boot)?;
    boot.power_off()?;
    Ok(tap.relay().heard().split_off(before))
}

/// Answers each request as the one in the same place was answered when it was recorded.
fn all_of(recorded: Vec<Exchange>) -> Lie {
    let mut answers = recorded.into_iter().map(|exchange| exchange.answer);
    Box::new(move |_, truth| answers.next().unwrap_or(truth))
}

/// Answers as recorded where the payload and its key are asked for: the TPM answers no old challenge for anybody.
fn payload_of(recorded: Vec<Exchange>) -> Lie {
    let is_payload = |path: &str| path.contains("/payload") && !path.ends_with("/receipt");
    Box::new(move |path, truth| {
        let last = path.rsplit('/').next();
        let old = recorded
            .iter()
            .find(|old| is_payload(path) && old.path.rsplit('/').next() == last);
        old.map_or(truth, |old| old.answer.clone())
    })
}
