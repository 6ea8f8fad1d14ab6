//! Early boot without a network, or with a verifier that is down or says nothing: the deadline holds, what the command line
//! wants of a failure happens, and the next boot recovers.

use std::net::TcpListener;
use std::sync::mpsc::channel;

use hw_tests::Result;
use hw_tests::guest::boot::{Boot, Ended, Firmware};
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::guest::{Guest, verifier_word};
use hw_tests::servers::VERIFIER_PORT;
use hw_tests::site::story;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::early_boot::{
    agent_took, deposit, ends, exit, has_nothing, has_the_secret, install, introduce, is_capped,
};
use crate::steps::verifier;

/// What the agent gets in a boot that fails.
const DEADLINE: &str = "keyhalf.deadline=6s";
/// Within what it has to be over, in seconds: the deadline, the cap, and time for a busy machine to get there.
const OVER: f64 = 9.0;
/// Longer than any boot here takes.
const AMPLE: &str = "keyhalf.deadline=40s";

#[test]
fn unreachable_verifiers_meet_the_deadline() {
    story(|site| {
        let (mut verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let mut guest = {
            let tenant = Tenant::beside(&verifier)?;
            let guest = install(&verifier, &tenant, tpm)?;
            deposit(&tenant, &introduce(&guest)?)?;
            guest
        };
        let own = verifier_word(verifier.address());
        guest.append(DEADLINE);

        // The cable is out.
        let mut boot = guest.boot()?;
        boot.set_link(false)?;
        fails(&mut boot, exit::NO_NETWORK)?;
        boot.power_off()?;

        // One that takes the connection and never says a word.
        let silent = reachable_address()?;
        let _silent = TcpListener::bind((silent, VERIFIER_PORT))?;
        guest.append(&verifier_word(silent));
        let mut boot = guest.boot()?;
        fails(&mut boot, exit::NO_NETWORK)?;
        boot.power_off()?;

        // Nobody listens.
        guest.append(&own);
        verifier.stop()?;
        let mut boot = guest.boot()?;
        fails(&mut boot, exit::NO_NETWORK)?;
        boot.power_off()?;

        verifier.start_again()?;
        recovers(&mut guest)
    });
}

#[test]
fn link_cut_in_the_payload_meets_the_deadline() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tap = Wiretap::before_at(&verifier, reachable_address()?)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&tap, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;

        let (asked, is_asked) = channel();
        let (cut, is_cut) = channel::<()>();
        tap.relay().now_tells(Box::new(move |path, truth| {
            if path.ends_with("/sealed") {
                let _nobody_waits = asked.send(());
                // Nobody cuts it a second time.
                let _again = is_cut.recv();
            }
            truth
        }));
        guest.append(DEADLINE);
        let mut boot = guest.boot()?;
        is_asked.recv_timeout(Firmware::Bios.limit())?;
        boot.set_link(false)?;
        // Its answer comes before anything that is sent after the link is down.
        boot.does("while [ \"$(cat /sys/class/net/eth0/carrier)\" = 1 ]; do sleep 0.1; done")?;
        drop(cut);
        fails(&mut boot, exit::NO_NETWORK)?;
        boot.power_off()?;
        recovers(&mut guest)
    });
}

/// With nobody who looks: the machine switches itself off.
#[test]
fn failed_boot_ends_as_the_command_line_wants() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        guest.append("keyhalf.deadline=4s keyhalf.on-failure=poweroff");
        let boot = guest.boot()?;
        boot.says("is capped in every bank")?;
        boot.says("no secret for this boot: the agent ended with 12")?;
        assert_eq!(boot.wait_for_end()?, Ended::Off);
        Ok(())
    });
}

/// Wants no secret, a capped boot, and all of that in time.
fn fails(boot: &mut Boot, code: i32) -> Result {
    ends(boot, code)?;
    let took = agent_took(boot)?;
    assert!(took < OVER, "{took} s");
    has_nothing(boot)?;
    is_capped(boot)
}

fn recovers(guest: &mut Guest<'_>) -> Result {
    guest.append(AMPLE);
    let mut boot = guest.boot()?;
    ends(&boot, exit::DONE)?;
    has_the_secret(&mut boot)
}
