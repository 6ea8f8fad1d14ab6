//! A fleet that hears of a failed node.

use hw_tests::receivers::Receivers;
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::tenant::Tenant;

use crate::peers::revoke;

#[test]
fn two_hundred_receivers_act_in_order() {
    story(|site| {
        // Their quotes are nothing to this story.
        let verifier = Verifier::start_with(site, &["--quote-interval", "600"])?;
        let tenant = Tenant::beside(&verifier)?;
        let mut receivers = Receivers::start(&verifier, &tenant, RECEIVERS, "keyhalf-agent")?;
        let bad = receivers.name(0)?.to_owned();
        revoke(&verifier, &bad, "the first")?;
        receivers.wait_until_all_acted(1)?;
        for number in AWAY {
            receivers.kill(number)?;
        }
        for number in 2..=4 {
            revoke(&verifier, &bad, &format!("number {number}"))?;
        }
        for number in AWAY.skip(20) {
            receivers.start_again(number)?;
        }
        revoke(&verifier, &bad, "number 5")?;
        for number in AWAY.take(20) {
            receivers.start_again(number)?;
        }
        receivers.wait_until_all_acted(5)
    });
}

const RECEIVERS: usize = 200;
/// Those that are off for a while.
const AWAY: std::ops::Range<usize> = 100..140;
