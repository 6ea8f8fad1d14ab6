use super::*;

const NO_ACTION: u32 = 3;

fn vector(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/eventlog/");
    std::fs::read(format!("{path}{name}.bin")).unwrap()
}

/// A first event with these banks, and some words of a vendor.
fn specification(banks: &[(u16, u16)]) -> Vec<u8> {
    let mut table = b"Spec ID Event03\0".to_vec();
    table.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    table.extend(u32::try_from(banks.len()).unwrap().to_le_bytes());
    for (algorithm, bytes) in banks {
        table.extend(algorithm.to_le_bytes());
        table.extend(bytes.to_le_bytes());
    }
    table.extend([2, b'h', b'i']);
    first(0, NO_ACTION, &table)
}

fn first(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut event = [pcr.to_le_bytes(), kind.to_le_bytes()].concat();
    event.extend([0; 20]);
    event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    event.extend(data);
    event
}

fn event(pcr: u32, kind: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let count = u32::try_from(digests.len()).unwrap();
    let mut event = [pcr, kind, count].map(u32::to_le_bytes).concat();
    for (algorithm, digest) in digests {
        event.extend(algorithm.to_le_bytes());
        event.extend(*digest);
    }
    event.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    event.extend(data);
    event
}

const SHA256_BANK: &[(u16, u16)] = &[(0xB, 32)];

fn log(events: &[Vec<u8>]) -> Vec<u8> {
    [specification(SHA256_BANK), events.concat()].concat()
}

fn locality(locality: &[u8]) -> Vec<u8> {
    let data = [&b"StartupLocality\0"[..], locality].concat();
    event(0, NO_ACTION, &[(0xB, &[0; 32])], &data)
}

fn some(pcr: u32) -> Vec<u8> {
    event(pcr, 8, &[(0xB, &[7; 32])], b"x")
}

#[test]
fn hostile_logs_are_refused_with_the_events_number() {
    let cut = |event, need, have| EventLogError::Truncated { event, need, have };
    let announced = |what, found| EventLogError::Specification { what, found };
    let late = |event, why| EventLogError::Locality {
        event,
        locality: 3,
        why,
    };
    let sized = "a size of digests that its hash has";
    let mut old = specification(SHA256_BANK);
    old[32 + 16 + 5] = 1;
    let rows = [
        ("nothing", vec![], cut(0, 4, 0)),
        (
            "a TPM 1.2's log",
            first(0, 8, b"1.0"),
            EventLogError::NotCryptoAgile,
        ),
        (
            "an older kind of header",
            first(0, NO_ACTION, b"Spec ID Event00\0"),
            EventLogError::NotCryptoAgile,
        ),
        (
            "a header of 4 GB",
            [&first(0, NO_ACTION, &[])[..28], &[0xFF; 4]].concat(),
            cut(0, 0xFFFF_FFFF, 0),
        ),
        (
            "version 1",
            old,
            announced("a version of the log other than 2", 0x100),
        ),
        (
            "no bank",
            specification(&[]),
            announced("a number of banks from 1 to 16", 0),
        ),
        (
            "17 banks",
            specification(&[(0x20, 9); 17]),
            announced("a number of banks from 1 to 16", 17),
        ),
        (
            "a short SHA-256",
            specification(&[(0xB, 20)]),
            announced(sized, 20),
        ),
        (
            "a digest without bytes",
            specification(&[(0x20, 0)]),
            announced(sized, 0),
        ),
        (
            "a bank twice",
            specification(&[(0xB, 32), (0xB, 32)]),
            announced("a bank once", 0xB),
        ),
        (
            "PCR 24",
            log(&[some(1), some(24)]),
            EventLogError::Pcr { event: 2, pcr: 24 },
        ),
        (
            "an unknown hash",
            log(&[event(1, 8, &[(0xC, &[0; 48])], b"")]),
            EventLogError::UnknownAlgorithm {
                event: 1,
                algorithm: 0xC,
            },
        ),
        (
            "two digests of one bank",
            [
                specification(&[(0xB, 32), (4, 20)]),
                event(1, 8, &[(0xB, &[0; 32]), (0xB, &[1; 32])], b""),
            ]
            .concat(),
            EventLogError::Twice {
                event: 1,
                algorithm: 0xB,
            },
        ),
        (
            "more digests than banks",
            log(&[event(1, 8, &[(0xB, &[0; 32]), (0xB, &[1; 32])], b"")]),
            EventLogError::Digests {
                event: 1,
                have: 2,
                limit: 1,
            },
        ),
        (
            "a cut digest",
            log(&[some(1), some(2)[..20].to_vec()]),
            cut(2, 32, 6),
        ),
        (
            "cut data",
            log(&[some(1)[..some(1).len() - 1].to_vec()]),
            cut(1, 1, 0),
        ),
        ("zeros after the end", log(&[vec![0; 3]]), cut(1, 4, 3)),
        (
            "locality after the first event",
            log(&[some(0), locality(&[3])]),
            late(2, "after PCR 0 was extended"),
        ),
        (
            "locality twice",
            log(&[locality(&[3]), locality(&[3])]),
            late(2, "which was said before"),
        ),
        (
            "locality 1",
            log(&[locality(&[1])]),
            EventLogError::Locality {
                event: 1,
                locality: 1,
                why: "from which no TPM starts",
            },
        ),
        (
            "locality of two bytes",
            log(&[locality(&[3, 0])]),
            EventLogError::Locality {
                event: 1,
                locality: 0,
                why: "in more or less than a byte",
            },
        ),
        (
            "a large log",
            vec![0; MAX_LOG_BYTES + 1],
            EventLogError::TooLarge {
                have: MAX_LOG_BYTES + 1,
                limit: MAX_LOG_BYTES,
            },
        ),
    ];
    for (name, bytes, error) in rows {
        assert_eq!(EventLog::parse(&bytes).map(|_| ()), Err(error), "{name}");
    }
}

#[test]
fn every_cut_of_a_real_log_is_refused_or_ends_between_events() {
    let bytes = vector("ovmf-uki");
    let whole = EventLog::parse(&bytes).unwrap();
    assert_eq!(whole.events().count(), 34);
    let mut shorter = 0;
    for at in 0..bytes.len() {
        match EventLog::parse(&bytes[..at]) {
            Ok(log) => {
                shorter += 1;
                assert_eq!(log.count(), shorter);
                assert_eq!(log.events().count() as u32, shorter);
            }
            Err(EventLogError::Truncated { event, .. }) => assert_eq!(event, shorter),
            Err(other) => panic!("cut at {at}: {other}"),
        }
    }
    assert_eq!(shorter, 33);
}

#[test]
fn what_is_not_extended_changes_nothing() {
    let quiet = event(0xFFFF_FFFF, NO_ACTION, &[(0xB, &[9; 32])], b"who knows");
    let with = log(&[quiet, some(1)]);
    let without = log(&[some(1)]);
    let replay = |bytes: &[u8]| EventLog::parse(bytes).unwrap().replay(HashAlg::Sha256);
    assert_eq!(replay(&with), replay(&without));
    assert!(replay(&with).unwrap().values()[1].is_some());
}

#[test]
fn pcr_0_starts_with_the_locality() {
    let start = |events: &[Vec<u8>]| {
        let bytes = log(events);
        let replayed = EventLog::parse(&bytes).unwrap().replay(HashAlg::Sha256);
        replayed.unwrap().value(0)
    };
    let hcrtm = event(0, 0x8000_0010, &[(0xB, &[7; 32])], b"HCRTM");
    let extended = |last: u8| {
        let mut before = [0; 32];
        before[31] = last;
        HashAlg::Sha256.digest([&before[..], &[7; 32]])
    };
    for (name, events, expected) in [
        ("none said", vec![some(0)], extended(0)),
        ("locality 0", vec![locality(&[0]), some(0)], extended(0)),
        ("locality 3", vec![locality(&[3]), some(0)], extended(3)),
        ("by the hardware", vec![hcrtm.clone()], extended(4)),
        (
            "by the hardware, and said",
            vec![locality(&[4]), hcrtm],
            extended(4),
        ),
    ] {
        assert_eq!(start(&events), expected, "{name}");
    }
    assert_eq!(start(&[locality(&[3])])[31], 3, "without an event");
}

#[test]
fn a_log_must_explain_each_pcr_of_the_policy() {
    let bytes = log(&[some(1), some(4), some(4)]);
    let log = EventLog::parse(&bytes).unwrap();
    let bank = HashAlg::Sha256;
    let replayed = log.replay(bank).unwrap();
    let (one, four, zeros) = (replayed.value(1), replayed.value(4), [0; 32]);
    let asked = PcrMask::EMPTY.with(1).with(2).with(4);
    let unexplained = |pcr, quoted: &[u8], events| EventLogError::Unexplained {
        pcr,
        bank,
        quoted: Box::new(Digest::from_slice(quoted).unwrap()),
        replayed: Box::new(replayed.value(pcr)),
        events,
    };
    type Quoted<'a> = &'a [(u8, &'a [u8])];
    let rows: [(&str, Quoted<'_>, Result<(), EventLogError>); 7] = [
        ("all", &[(1, &one), (2, &zeros), (4, &four)], Ok(())),
        (
            "one more",
            &[(1, &one), (2, &zeros), (4, &four), (23, b"x")],
            Ok(()),
        ),
        (
            "PCR extended by hand",
            &[(1, &one), (2, &zeros), (4, &one)],
            Err(unexplained(4, &one, 2)),
        ),
        (
            "PCR without events extended by hand",
            &[(1, &one), (2, &one), (4, &four)],
            Err(unexplained(2, &one, 0)),
        ),
        (
            "log of another boot",
            &[(1, &zeros), (2, &zeros), (4, &four)],
            Err(unexplained(1, &zeros, 1)),
        ),
        (
            "not quoted",
            &[(1, &one), (4, &four)],
            Err(EventLogError::NotQuoted { pcr: 2, bank }),
        ),
        (
            "a short value",
            &[(1, &one[..31]), (2, &zeros), (4, &four)],
            Err(unexplained(1, &one[..31], 1)),
        ),
    ];
    for (name, quoted, expected) in rows {
        assert_eq!(
            log.check(bank, quoted.iter().copied(), asked),
            expected,
            "{name}"
        );
    }
    let other = log.check(HashAlg::Sha384, [], PcrMask::EMPTY);
    assert_eq!(
        other,
        Err(EventLogError::NoBank {
            bank: HashAlg::Sha384
        })
    );
}

/// Two stripped or swapped events, a changed digest: the replay differs.
#[test]
fn stripped_and_swapped_events_show() {
    let bytes = vector("ovmf-shim-grub");
    let log = EventLog::parse(&bytes).unwrap();
    let good = log.replay(HashAlg::Sha256).unwrap();
    let mut ends = Vec::new();
    let mut reader = Reader::new(log.events);
    for number in 1..log.count() {
        Event::read(&mut reader, &log.banks, number).unwrap();
        ends.push(bytes.len() - reader.rest().len());
    }
    let (a, b, c) = (ends[33], ends[34], ends[35]);
    let stripped = [&bytes[..a], &bytes[b..]].concat();
    let swapped = [&bytes[..a], &bytes[b..c], &bytes[a..b], &bytes[c..]].concat();
    let mut changed = bytes.clone();
    // Behind the header and the SHA-1 digest.
    changed[a + 40] ^= 1;
    for (name, other) in [
        ("stripped", stripped),
        ("swapped", swapped),
        ("changed", changed),
    ] {
        let replayed = EventLog::parse(&other).unwrap().replay(HashAlg::Sha256);
        let replayed = replayed.unwrap();
        let differ: Vec<_> = (0..24)
            .filter(|pcr| good.value(*pcr) != replayed.value(*pcr))
            .collect();
        assert_eq!(differ, [8], "{name}");
    }
}

#[test]
fn data_counts_where_it_was_measured() {
    let says = |log: &str, number: usize| {
        let bytes = vector(log);
        let log = EventLog::parse(&bytes).unwrap();
        describe(&log.events().nth(number).unwrap(), HashAlg::Sha256)
    };
    for (log, number, expected) in [
        (
            "ovmf-shim-grub",
            0,
            "event 0 (PCR 0, EV_NO_ACTION): not measured, ",
        ),
        (
            "ovmf-shim-grub",
            4,
            "event 4 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): the variable \"SecureBoot\" of 8be4df61-93ca-11d2-aa0d-00e098032b8c, 01, sha256 ",
        ),
        (
            "ovmf-shim-grub",
            9,
            "event 9 (PCR 7, EV_SEPARATOR): the end of what the firmware measured, sha256 ",
        ),
        (
            "ovmf-shim-grub",
            15,
            "event 15 (PCR 4, EV_EFI_ACTION): the text \"Calling EFI Application from Boot Option\", sha256 ",
        ),
        (
            "ovmf-shim-grub",
            26,
            "event 26 (PCR 5, EV_EFI_GPT_EVENT): 45464920",
        ),
        (
            "ovmf-shim-grub",
            44,
            "event 44 (PCR 8, EV_IPL): the text \"/vmlinuz console=ttyS0 panic=-1 ro\", sha256 ",
        ),
        (
            "ovmf-shim-grub",
            46,
            "event 46 (PCR 9, EV_IPL): what it calls \"/initrd.img\" (the log's word: it doesn't contain what was measured), sha256 ",
        ),
        (
            "ovmf-shim-grub",
            42,
            "event 42 (PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION): an image (the log's word",
        ),
        (
            "ovmf-uki",
            21,
            "event 21 (PCR 11, EV_IPL): what it calls \".linux\" (the log's word",
        ),
        (
            "ovmf-efi-stub",
            21,
            "event 21 (PCR 9, EV_EVENT_TAG): what it calls \"LOADED_IMAGE::LoadOptions\" (the log's word",
        ),
        (
            "ovmf-efi-stub",
            11,
            "event 11 (PCR 1, EV_EFI_VARIABLE_BOOT): what it calls the variable \"BootOrder\" of",
        ),
        (
            "tss-hcrtm",
            2,
            "event 2 (PCR 0, EV_S_CRTM_VERSION): the text \"Dhyana2.05.43.29.0003\", sha256 ",
        ),
    ] {
        let said = says(log, number);
        assert!(said.starts_with(expected), "{said}");
    }
}

/// The text of an unlogged command line is found by its digest.
#[test]
fn unlogged_texts_are_recognised() {
    let bytes = vector("ovmf-efi-stub");
    let log = EventLog::parse(&bytes).unwrap();
    let options = log.events().nth(21).unwrap();
    let booted = "console=ttyS0 panic=-1 initrd=initrd";
    assert!(options.is_text(HashAlg::Sha256, booted));
    assert!(!options.is_text(HashAlg::Sha256, "console=ttyS0 panic=-1"));
    assert_eq!(options.explained(HashAlg::Sha256), None);
    let changed = log_with_label("kernel_cmdline: init=/bin/sh", "quiet");
    let lie = EventLog::parse(&changed).unwrap().events().nth(1).unwrap();
    assert_eq!(lie.explained(HashAlg::Sha256), None);
    assert!(lie.is_text(HashAlg::Sha256, "quiet"));
}

fn log_with_label(says: &str, measured: &str) -> Vec<u8> {
    let digest = HashAlg::Sha256.digest([measured.as_bytes()]);
    log(&[event(8, 0xD, &[(0xB, &digest)], says.as_bytes())])
}

#[test]
fn signatures_are_read_or_refused() {
    let bytes = vector("ovmf-shim-grub");
    let log = EventLog::parse(&bytes).unwrap();
    let variables = |number: usize| {
        let event = log.events().nth(number).unwrap();
        let Some(Explained::Variable(variable)) = event.explained(HashAlg::Sha256) else {
            panic!("{event:?} is no variable");
        };
        let kinds = variable
            .signatures()
            .map(|signature| signature.map(|it| it.kind));
        (variable.name(), kinds.collect::<Result<Vec<_>, _>>())
    };
    let x509 = |count| Ok(vec![Guid::X509; count]);
    assert_eq!(variables(5), ("PK".into(), x509(1)));
    assert_eq!(variables(6), ("KEK".into(), x509(2)));
    assert_eq!(variables(7), ("db".into(), x509(2)));
    assert_eq!(variables(8), ("dbx".into(), Ok(vec![Guid::SHA256])));
    assert_eq!(variables(4), ("SecureBoot".into(), Err(data::NoSignatures)));
}

#[test]
fn guids_are_read_as_they_are_written() {
    let text = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    assert_eq!(Guid::from_text(text), Some(Guid::GLOBAL));
    assert_eq!(Guid::GLOBAL.to_string(), text);
    for wrong in [
        "",
        "8be4df61-93ca-11d2-aa0d-00e098032b8",
        "8be4df6193ca11d2aa0d00e098032b8c",
        "8be4df61-93ca-11d2-aa0d-00e098032b8c0",
    ] {
        assert_eq!(Guid::from_text(wrong), None, "{wrong}");
    }
}
