use agent_core::wire::quote::PCR_COUNT;

use super::*;
use crate::evidence::eventlog::EventType;

/// A log whose digests are what was measured and whose words are another's: what root on the machine can send.
#[test]
fn lies_about_types_and_data_do_not_help() {
    let secure_boot = rules(
        &format!(r#"{{"name": "on", {CONFIG}, "must": {{"secure_boot": true}}}}"#),
        r#", "open": [7]"#,
    );
    // Booted without Secure Boot.
    let honest = Words::of("ovmf-uki");
    let (off, end) = (4, 9);
    let refuses = |log: &Words, expected: &str| {
        let bytes = log.bytes();
        let log = EventLog::parse(&bytes).unwrap();
        let failure = read(&secure_boot).judge(&log, HashAlg::Sha256).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    };
    refuses(&honest, "rule \"on\" refuses event 4");

    let mut relabelled = honest.clone();
    relabelled.kinds[off] = EventType::ACTION.0;
    refuses(&relabelled, "rule \"on\" refuses event 4");

    let mut claims = honest.clone();
    *claims.data[off].last_mut().unwrap() = 1;
    refuses(&claims, "the log doesn't say what was measured here");

    // After the boot, root extends PCR 7 by what a good boot would have measured, and calls the rest something else.
    let mut appended = honest.clone();
    appended.kinds[off] = EventType::IPL.0;
    appended.data[off] = b"something".to_vec();
    appended.kinds[end] = EventType::IPL.0;
    let good = [&honest.data[off][..honest.data[off].len() - 1], &[1]].concat();
    appended.push(7, EventType::VARIABLE_DRIVER_CONFIG.0, &good);
    refuses(
        &appended,
        "event 4 (PCR 7, EV_IPL): what it calls \"something\"",
    );
    appended.data[off] = honest.data[off].clone();
    refuses(&appended, "rule \"on\" refuses event 4");
    // Even a log that says nothing wrong: too late.
    let mut late = honest.clone();
    late.push(7, EventType::VARIABLE_DRIVER_CONFIG.0, &good);
    late.data[off] = late.data[off + 1].clone();
    refuses(&late, "event 4");

    // Without a separator whatever is there may have come after the boot.
    let mut endless = honest.clone();
    endless.data[off] = good;
    endless.digests[off] = HashAlg::Sha256
        .digest([endless.data[off].as_slice()])
        .to_vec();
    endless.kinds[end] = EventType::IPL.0;
    endless.digests[end] = HashAlg::Sha256.digest([&b"x"[..]]).to_vec();
    endless.data[end] = b"x".to_vec();
    refuses(&endless, "PCR 7 has no separator");

    let mut unmeasured = honest.clone();
    unmeasured.kinds[off] = EventType::NO_ACTION.0;
    let bytes = unmeasured.bytes();
    let log = EventLog::parse(&bytes).unwrap();
    let (lied, true_log) = (log.replay(HashAlg::Sha256).unwrap(), honest.bytes());
    let truth = EventLog::parse(&true_log)
        .unwrap()
        .replay(HashAlg::Sha256)
        .unwrap();
    let differ: Vec<_> = (0..PCR_COUNT)
        .filter(|pcr| lied.value(*pcr) != truth.value(*pcr))
        .collect();
    assert_eq!(
        differ,
        [7],
        "an event that isn't extended is missed in the replay"
    );
}

/// A log taken apart, to be put together with other words.
#[derive(Clone)]
struct Words {
    header: Vec<u8>,
    pcrs: Vec<u32>,
    kinds: Vec<u32>,
    digests: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
}

impl Words {
    fn of(name: &str) -> Self {
        let bytes = file(&format!("{name}.bin"));
        let log = EventLog::parse(&bytes).unwrap();
        let mut events = log.events();
        let first = events.next().unwrap();
        let mut words = Self {
            header: bytes[..32 + first.data.len()].to_vec(),
            pcrs: vec![0],
            kinds: vec![0],
            digests: vec![vec![]],
            data: vec![vec![]],
        };
        for event in events {
            words.pcrs.push(event.pcr);
            words.kinds.push(event.kind.0);
            words
                .digests
                .push(event.digest(HashAlg::Sha256).unwrap().to_vec());
            words.data.push(event.data.to_vec());
        }
        words
    }

    fn push(&mut self, pcr: u32, kind: u32, data: &[u8]) {
        self.pcrs.push(pcr);
        self.kinds.push(kind);
        self.digests.push(HashAlg::Sha256.digest([data]).to_vec());
        self.data.push(data.to_vec());
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for number in 1..self.pcrs.len() {
            let head = [self.pcrs[number], self.kinds[number], 1];
            bytes.extend(head.map(u32::to_le_bytes).concat());
            bytes.extend([0x0B, 0]);
            bytes.extend(&self.digests[number]);
            let size = u32::try_from(self.data[number].len()).unwrap();
            bytes.extend(size.to_le_bytes());
            bytes.extend(&self.data[number]);
        }
        bytes
    }
}
