//! The recorded traffic is what Keylime's programs still say, and what they say to our agent.

use std::sync::Arc;

use hw_tests::day;
use hw_tests::keylime::Keylime;
use hw_tests::machine::Machine;
use hw_tests::operator::Maker;
use hw_tests::servers::Verifier;
use hw_tests::site::{fresh_address, story};
use hw_tests::traffic;

/// With `KEYHALF_RECORD` set the recording is made anew instead.
#[test]
fn keylime_speaks_as_recorded() {
    story(|site| {
        let machine = Arc::new(Machine::new(site, "operator")?);
        // Makes the certificates that all of them use, ours and Keylime's.
        drop(Verifier::start_on(
            site,
            Arc::clone(&machine),
            fresh_address(),
            &[],
        )?);
        let mut keylime = Keylime::install_on(site, machine, &[])?;
        keylime.start_verifier()?;
        keylime.start_registrar()?;
        let said = day::recorded(&keylime, Maker::Keylime, None)?;
        if std::env::var_os("KEYHALF_RECORD").is_some() {
            let among_themselves: Vec<_> = said
                .into_iter()
                .filter(|message| !message.is_with_agent())
                .collect();
            return traffic::write(traffic::KEYLIMES, &among_themselves);
        }
        let found = traffic::differences(&said, &traffic::keylimes()?);
        assert!(found.is_empty(), "{found:#?}");
        Ok(())
    });
}
