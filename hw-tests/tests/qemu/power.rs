//! The power goes while the node gets its secret: at each of its requests, and between them.

use std::sync::mpsc::channel;

use hw_tests::guest::boot::Firmware;
use hw_tests::guest::network::reachable_address;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::story;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::early_boot::{deposit, ends, exit, has_the_secret, install, introduce};
use crate::steps::verifier;

/// What a good boot says after the last answer that it needs.
const AFTERWARDS: [&str; 3] = ["payload unpacked to", "agent: finished", "agent: PCR 15"];

#[test]
fn power_cuts_through_provision_leave_nothing_half_done() {
    story(|site| {
        let (verifier, tpm) = (verifier(site)?, GuestTpm::fresh(site)?);
        let tap = Wiretap::before_at(&verifier, reachable_address()?)?;
        let tenant = Tenant::beside(&verifier)?;
        let guest = install(&tap, &tenant, tpm)?;
        deposit(&tenant, &introduce(&guest)?)?;

        let before = tap.relay().heard().len();
        let boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        boot.power_off()?;
        let requests = tap.relay().heard().len() - before;
        assert!(requests >= 6, "{requests} requests in a good boot");

        for number in 0..requests {
            // The answer is there when the power goes, and nobody hears it.
            let (reached, is_reached) = channel();
            let (cut, is_cut) = channel::<()>();
            let mut seen = 0;
            tap.relay().now_tells(Box::new(move |_, truth| {
                if seen == number {
                    let _nobody_waits = reached.send(());
                    let _gone = is_cut.recv();
                }
                seen += 1;
                truth
            }));
            let boot = guest.boot()?;
            is_reached.recv_timeout(Firmware::Bios.limit())?;
            boot.cut_power()?;
            drop(cut);
        }
        tap.relay().now_tells(hw_tests::relay::honest());
        for moment in AFTERWARDS {
            let boot = guest.boot()?;
            boot.says(moment)?;
            boot.cut_power()?;
        }
        let mut boot = guest.boot()?;
        ends(&boot, exit::DONE)?;
        has_the_secret(&mut boot)?;
        boot.power_off()
    });
}
