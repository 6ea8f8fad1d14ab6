//! Early boot that doesn't get through to its verifier, or isn't over in time. Whatever it was: the deadline holds, what the
//! command line wants of a failure happens after the cap, and the next boot recovers.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};

use hw_tests::Result;
use hw_tests::guest::boot::{Boot, Ended, Firmware};
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::guest::{Guest, verifier_word};
use hw_tests::payload;
use hw_tests::relay::honest;
use hw_tests::servers::VERIFIER_PORT;
use hw_tests::site::story;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::early_boot::{
    ENDED, deposit, deposit_with, ends, exit, from_agents_start, has_nothing, has_the_secret,
    install, introduce, is_capped,
};
use crate::steps::verifier;

/// What the agent gets in a boot that fails.
const DEADLINE: &str = "keyhalf.deadline=6s";
/// Within what it has to be over, in seconds: the deadline, the cap, and time for a busy machine to get there.
const OVER: f64 = 9.0;
/// Longer than any boot here takes; of equal words the last counts.
const AMPLE: &str = "keyhalf.deadline=40s keyhalf.on-failure=continue";

#[test]
fn no_network_meets_deadline() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;
        // The cable is out.
        fails_both_ways(&mut guest, exit::NO_NETWORK, |boot| boot.set_link(false))?;
        recovers(&mut guest)
    });
}

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

        // One that takes the connection and never says a word.
        let silent = reachable_address()?;
        let _silent = TcpListener::bind((silent, VERIFIER_PORT))?;
        guest.append(&format!("{DEADLINE} {}", verifier_word(silent)));
        goes_on(guest.boot()?, exit::NO_NETWORK)?;

        // Nobody listens.
        guest.append(&own);
        verifier.stop()?;
        fails_both_ways(&mut guest, exit::NO_NETWORK, |_| Ok(()))?;

        verifier.start_again()?;
        recovers(&mut guest)
    });
}

/// Its first answers come as ever, so that a session is there; the others when the boot is over.
#[test]
fn slow_verifier_meets_the_deadline() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tap = Wiretap::before_at(&verifier, reachable_address()?)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&tap, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;

        let mut until_over: Option<Sender<()>> = None;
        fails_both_ways(&mut guest, exit::NO_NETWORK, |_| {
            // Lets go of what the boot before is still owed.
            drop(until_over.take());
            let (over, is_over) = channel();
            until_over = Some(over);
            tap.relay().now_tells(Box::new(move |path, truth| {
                if !path.contains("/sessions") {
                    let _late = is_over.recv();
                }
                truth
            }));
            Ok(())
        })?;
        drop(until_over);
        tap.relay().now_tells(honest());
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
                let _nobody_cuts = is_cut.recv();
            }
            truth
        }));
        fails_both_ways(&mut guest, exit::NO_NETWORK, |boot| {
            cut_link(boot, &is_asked)?;
            Ok(cut.send(())?)
        })?;
        tap.relay().now_tells(honest());
        recovers(&mut guest)
    });
}

/// Cuts it as the payload is asked for.
fn cut_link(boot: &mut Boot, is_asked: &Receiver<()>) -> Result {
    is_asked.recv_timeout(Firmware::Bios.limit())?;
    boot.set_link(false)?;
    // Its answer comes before anything that is sent after the link is down.
    boot.does("while [ \"$(cat /sys/class/net/eth0/carrier)\" = 1 ]; do sleep 0.1; done")?;
    Ok(())
}

/// The payload is there, and its script goes on and on.
#[test]
fn endless_script_meets_the_deadline() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        let node = introduce(&guest)?;
        deposit_with(&tenant, &node, "#!/bin/sh\nsleep 600\n")?;

        guest.append(DEADLINE);
        let mut boot = guest.boot()?;
        boot.says("running autorun.sh")?;
        in_time(&boot, ENDED)?;
        ends(&boot, exit::DEADLINE)?;
        is_capped(&mut boot)?;
        // The brackets keep grep from finding itself.
        boot.does("! grep -l 'sleep.[6]00' /proc/[0-9]*/cmdline")?;
        boot.power_off()?;

        guest.append("keyhalf.on-failure=poweroff");
        goes_off(guest.boot()?, exit::DEADLINE)?;

        payload::script(&tenant.work().join("payload"), payload::DOCUMENTED_SCRIPT)?;
        let again = ["-c", "rotate", "-u", &node.uuid, "--cert", "myca"];
        tenant.does(&[&again[..], &["--include", "payload"]].concat())?;
        recovers(&mut guest)
    });
}

/// A node that nobody has accepted, with nobody who looks: the machine switches itself off.
#[test]
fn failed_boot_ends_as_the_command_line_wants() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tenant = Tenant::beside(&verifier)?;
        let mut guest = install(&verifier, &tenant, tpm)?;
        guest.append("keyhalf.deadline=4s keyhalf.on-failure=poweroff");
        goes_off(guest.boot()?, exit::NOT_ACCEPTED)
    });
}

/// Boots twice with something in the way, which `happens` in each: one boot goes on without the secret, as where nothing
/// else is wanted, and one switches itself off.
fn fails_both_ways(
    guest: &mut Guest<'_>,
    code: i32,
    mut happens: impl FnMut(&mut Boot) -> Result,
) -> Result {
    guest.append(DEADLINE);
    let mut boot = guest.boot()?;
    happens(&mut boot)?;
    goes_on(boot, code)?;

    guest.append("keyhalf.on-failure=poweroff");
    let mut boot = guest.boot()?;
    happens(&mut boot)?;
    goes_off(boot, code)
}

/// Wants no secret, a capped boot, and all of that in time.
fn goes_on(mut boot: Boot, code: i32) -> Result {
    in_time(&boot, ENDED)?;
    ends(&boot, code)?;
    has_nothing(&mut boot)?;
    is_capped(&mut boot)?;
    boot.power_off()
}

/// Wants the machine off, in time and after the cap.
fn goes_off(boot: Boot, code: i32) -> Result {
    let why = format!("no secret for this boot: the agent ended with {code}");
    in_time(&boot, &why)?;
    let text = boot.console().text();
    let before = text.split(&why).next().unwrap_or_default();
    assert!(before.contains("is capped in every bank"), "not capped");
    assert_eq!(boot.wait_for_end()?, Ended::Off);
    Ok(())
}

/// Wants the console to say that within the deadline.
fn in_time(boot: &Boot, text: &str) -> Result {
    let took = from_agents_start(boot, text)?;
    assert!(took < OVER, "{took} s");
    Ok(())
}

fn recovers(guest: &mut Guest<'_>) -> Result {
    guest.append(AMPLE);
    let mut boot = guest.boot()?;
    ends(&boot, exit::DONE)?;
    has_the_secret(&mut boot)
}
