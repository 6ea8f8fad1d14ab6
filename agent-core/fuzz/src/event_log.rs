//! A firmware's event log: read whole or refused, and judged without a step past its end, whatever it says.

use agent_core::wire::quote::{HashAlg, PCR_COUNT, PcrMask};
use verifier_host::evidence::eventlog::{EventLog, EventLogError, describe};
use verifier_host::policy::measured_boot::{Kind, MeasuredBootPolicy, create};

const BANKS: [HashAlg; 3] = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// The bytes are a log.
pub fn check(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else {
        return;
    };
    let events = log.events().count();
    assert_eq!(u32::try_from(events).unwrap(), log.count());
    let held: usize = log.events().map(|event| event.data.len()).sum();
    assert!(held < data.len());
    for bank in BANKS {
        check_bank(&log, bank);
    }
    check_made(&log);
    // A log that ends inside its last event is none.
    assert!(EventLog::parse(&data[..data.len() - 1]).is_err());
}

/// What the log makes of the PCRs explains them, and no other value.
fn check_bank(log: &EventLog<'_>, bank: HashAlg) {
    let Some(replayed) = log.replay(bank) else {
        let asked = log.check(bank, [], PcrMask::EMPTY);
        return assert_eq!(asked, Err(EventLogError::NoBank { bank }));
    };
    let mut values: Vec<_> = (0..PCR_COUNT)
        .map(|pcr| (pcr, replayed.value(pcr)))
        .collect();
    let all = PcrMask::from_select([0xFF; 3]);
    let check = |values: &[(u8, agent_core::wire::quote::Digest)]| {
        log.check(
            bank,
            values.iter().map(|(pcr, value)| (*pcr, value.as_slice())),
            all,
        )
    };
    assert_eq!(check(&values), Ok(()));
    let (pcr, value) = &mut values[7];
    value[0] ^= 1;
    let changed = *pcr;
    assert!(
        matches!(check(&values), Err(EventLogError::Unexplained { pcr, .. }) if pcr == changed)
    );
    for event in log.events() {
        let line = describe(&event, bank);
        assert!(
            !line.contains(|letter: char| letter.is_control()),
            "{line:?}"
        );
    }
}

/// A policy that is made from a log takes that log, if each event has a digest of the quoted bank.
fn check_made(log: &EventLog<'_>) {
    let text = create(log, Kind::Exact).unwrap();
    let Ok(policy) = MeasuredBootPolicy::read(text.as_bytes()) else {
        return;
    };
    let whole = |bank: &HashAlg| {
        log.events()
            .all(|event| event.digest(*bank).is_some() || !event.is_extended())
    };
    if let Some(bank) = BANKS
        .into_iter()
        .filter(|bank| log.has_bank(*bank))
        .find(whole)
    {
        assert_eq!(policy.judge(log, bank), Ok(()));
    }
}
