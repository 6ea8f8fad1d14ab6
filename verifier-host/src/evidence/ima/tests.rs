//! Vectors: see `tests/vectors/ima/SOURCES.md`.

use std::convert::Infallible;
use std::fmt::Write as _;

use agent_core::wire::quote::{PcrDump, PcrValues};

use super::*;

mod formats;

const KEYLIME: &str = include_str!("../../../tests/vectors/ima/keylime.txt");
const GUEST: &str = include_str!("../../../tests/vectors/ima/guest.txt");
const GUEST_BINARY: &[u8] = include_bytes!("../../../tests/vectors/ima/guest.bin");
const GUEST_PCRS: &str = include_str!("../../../tests/vectors/ima/guest-pcrs.txt");
const BANK: HashAlg = HashAlg::Sha256;

/// A value of a PCR of the guest, in a bank.
fn guest_pcr(bank: &str, pcr: u8) -> Vec<u8> {
    let wanted = format!("{bank} {pcr} ");
    let line = GUEST_PCRS
        .lines()
        .find_map(|line| line.strip_prefix(&wanted));
    unhex(line.unwrap())
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn anything(_: &Entry<'_>) -> Result<(), Infallible> {
    Ok(())
}

fn checked(list: &[u8], from: &Replayed, quoted: &[u8]) -> Result<Matched, ImaError<Infallible>> {
    check(list, BANK, from, quoted, 0, &mut anything)
}

/// Where a list leads in a bank, all of its lines replayed.
pub(crate) fn end(list: &[u8], bank: HashAlg) -> Replayed {
    let no_pcr = [];
    match check(list, bank, &Replayed::default(), &no_pcr, 0, &mut anything) {
        Err(ImaError::NoMatch { last, pcr, .. }) => Replayed {
            lines: last,
            pcr: unhex(&pcr).into_iter().collect(),
        },
        other => panic!("{other:?}"),
    }
}

/// A list of the template ima-ng, as a kernel writes it.
fn list(paths: &[&str]) -> String {
    let mut text = String::new();
    for path in paths {
        let digest = BANK.digest([path.as_bytes()]);
        line(&mut text, &digest, path);
    }
    text
}

/// Writes a line of the template ima-ng.
pub(crate) fn line(text: &mut String, digest: &[u8], path: &str) {
    let sized = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_le_bytes(), bytes].concat()
    };
    let data = [
        sized(&[b"sha256:\0", digest].concat()),
        sized(&[path.as_bytes(), b"\0"].concat()),
    ]
    .concat();
    let (hash, digest) = (ListHash::Sha1.digest(&data), Hex(digest));
    writeln!(text, "10 {} ima-ng sha256:{digest} {path}", Hex(&hash)).unwrap();
}

#[test]
fn published_lines_have_the_hash_that_they_say() {
    let paths = [
        ("ima-sig", "boot_aggregate"),
        (
            "ima-sig",
            "/lib/modules/5.4.48-openpower1/kernel/drivers/usb/common/usb-common.ko",
        ),
        (
            "ima-sig",
            "/lib/modules/5.4.48-openpower1/kernel/drivers/gpu/drm/drm_panel_orientation_quirks.ko",
        ),
        ("ima-sig", "/usr/bin/dd"),
        ("ima-sig", "/usr/bin/zmore"),
        ("ima-buf", ".ima"),
        ("ima-buf", "device_resume"),
        ("ima", "/usr/bin/kmod"),
        ("ima-ng", "/usr/lib/systemd/systemd"),
    ];
    let mut lines = Lines::new(KEYLIME.as_bytes());
    for (template, path) in paths {
        let entry = lines.next().unwrap().unwrap();
        assert_eq!((entry.template, entry.path_str()), (template, Some(path)));
        let hash = ListHash::Sha1.digest(entry.data);
        assert_eq!(hash.as_slice(), entry.template_hash, "{path}");
        let is_right = match entry.content {
            Content::File => !matches!(path, "/usr/bin/dd" | "/usr/bin/zmore"),
            Content::Signed(bytes) => FileSignature::parse(bytes).is_ok(),
            Content::Buffer(bytes) => {
                let hash = ListHash::from_name(entry.digest.alg).unwrap();
                hash.digest(bytes).as_slice() == entry.digest.bytes
            }
        };
        assert!(is_right, "{path}: {:?}", entry.content);
    }
    assert!(lines.next().is_none());
}

#[test]
fn a_real_list_gives_the_real_pcr() {
    let lines = u64::try_from(GUEST.lines().count()).unwrap();
    for (name, list) in [("text", GUEST.as_bytes()), ("binary", GUEST_BINARY)] {
        let quoted = guest_pcr("sha256", 10);
        let matched = checked(list, &Replayed::default(), &quoted).unwrap();
        assert_eq!(matched.replayed.lines, lines, "{name}");
        assert_eq!(matched.replayed.pcr.as_slice(), quoted, "{name}");
        assert_eq!(matched.beyond, 0);
        // In the SHA-1 bank, the kernel extends what stands in the list.
        let mut pcr = vec![0; 20];
        let mut entries = Lines::new(list);
        let mut violations = 0;
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            let extended = if entry.violation {
                &[0xFF; 20]
            } else {
                entry.template_hash
            };
            violations += usize::from(entry.violation);
            pcr = ListHash::Sha1.digest(&[&pcr, extended].concat()).to_vec();
        }
        assert_eq!(pcr, guest_pcr("sha1", 10), "{name}");
        assert!(violations > 0, "the guest wrote while it read");
    }
}

#[test]
fn text_and_binary_say_the_same() {
    let (mut text, mut binary) = (Lines::new(GUEST.as_bytes()), Lines::new(GUEST_BINARY));
    while let Some(entry) = text.next() {
        assert_eq!(Some(entry), binary.next());
    }
    assert!(binary.next().is_none());
}

#[test]
fn boot_aggregate_is_that_of_the_pcrs() {
    let values: PcrValues = (0..10)
        .map(|pcr| (pcr, guest_pcr("sha256", pcr).into_iter().collect()))
        .collect();
    let dump = PcrDump::new(BANK, values.clone()).unwrap();
    let aggregate = BootAggregate::of(&dump).unwrap();
    let mut lines = Lines::new(GUEST.as_bytes());
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first.path, BOOT_AGGREGATE);
    assert_eq!(aggregate.agrees(&first.digest), Some(true));
    assert_eq!(aggregate.value(), first.digest.bytes);
    let older = BANK.digest((0..8).map(|pcr| dump.value(pcr).unwrap()));
    let with = |alg, bytes| FileDigest {
        kind: None,
        alg,
        bytes,
    };
    assert_eq!(aggregate.agrees(&with("sha256", &older)), Some(true));
    assert_eq!(aggregate.agrees(&with("sha256", &[1; 32])), Some(false));
    assert_eq!(aggregate.agrees(&with("sha1", &[1; 20])), None);
    for missing in 0..10 {
        let some = values.iter().filter(|(pcr, _)| *pcr != missing).cloned();
        let dump = PcrDump::new(BANK, some.collect()).unwrap();
        assert_eq!(BootAggregate::of(&dump), None, "without PCR {missing}");
    }
}

#[test]
fn only_new_lines_travel() {
    let all = list(&["boot_aggregate", "/a", "/b", "/c", "/d"]);
    let ends: Vec<usize> = all.match_indices('\n').map(|(at, _)| at + 1).collect();
    let after = |lines: usize| end(&all.as_bytes()[..ends[lines - 1]], BANK);
    let part = |from: usize, to: usize| &all.as_bytes()[ends[from - 1]..ends[to - 1]];
    let two = after(2);
    let at = |lines, beyond| {
        Ok(Matched {
            replayed: after(lines),
            beyond,
        })
    };
    let no_match = |last: u64, pcr: &Replayed, quoted: &Replayed| {
        Err(ImaError::NoMatch {
            first: 3,
            last,
            pcr: Hex(&pcr.pcr).to_string(),
            quoted: Hex(&quoted.pcr).to_string(),
        })
    };
    let behind = |matched, at_least| Err(ImaError::Behind { matched, at_least });
    let nothing: &[u8] = b"";
    type Row<'a> = (
        &'a str,
        &'a [u8],
        Replayed,
        u64,
        Result<Matched, ImaError<Infallible>>,
    );
    let rows: [Row<'_>; 11] = [
        ("no new line, unchanged PCR", nothing, after(2), 0, at(2, 0)),
        ("one new line", part(2, 3), after(3), 0, at(3, 0)),
        ("all new lines", part(2, 5), after(5), 0, at(5, 0)),
        (
            "more lines than the quote saw",
            part(2, 5),
            after(3),
            0,
            at(3, 2),
        ),
        (
            "new lines that no quote saw yet",
            part(2, 5),
            after(2),
            0,
            at(2, 3),
        ),
        (
            "fewer lines than the quote saw",
            part(2, 4),
            after(5),
            0,
            no_match(4, &after(4), &after(5)),
        ),
        (
            "no new line, changed PCR",
            nothing,
            after(3),
            0,
            no_match(2, &two, &after(3)),
        ),
        (
            "caught up with what came before",
            part(2, 5),
            after(4),
            4,
            at(4, 1),
        ),
        ("beyond what came before", part(2, 5), after(5), 4, at(5, 0)),
        (
            "still behind what came before",
            part(2, 5),
            after(3),
            4,
            behind(3, 4),
        ),
        (
            "nothing new, though there was",
            nothing,
            after(2),
            4,
            behind(2, 4),
        ),
    ];
    for (name, list, quoted, at_least, wanted) in rows {
        let quoted = &quoted.pcr;
        let result = check(list, BANK, &two, quoted, at_least, &mut anything);
        assert_eq!(result, wanted, "{name}");
    }
    let other = Replayed {
        lines: 2,
        pcr: [1; 48].into_iter().collect(),
    };
    let wanted = Err(ImaError::Bank { have: 48, want: 32 });
    assert_eq!(checked(nothing, &other, &two.pcr), wanted);
}

#[test]
fn a_list_cut_anywhere_matches_at_its_line_only() {
    let text = list(&["boot_aggregate", "/a", "/b"]);
    let quoted = end(text.as_bytes(), BANK);
    for at in 0..text.len() - 1 {
        let result = checked(&text.as_bytes()[..at], &Replayed::default(), &quoted.pcr);
        assert!(result.is_err(), "cut at {at}: {result:?}");
    }
    // The end of the last line is no part of it.
    let cut = &text.as_bytes()[..text.len() - 1];
    assert!(checked(cut, &Replayed::default(), &quoted.pcr).is_ok());
}

#[test]
fn every_flipped_bit_fails() {
    let text = list(&["boot_aggregate", "/usr/bin/true"]);
    let quoted = end(text.as_bytes(), BANK);
    for at in 0..text.len() - 1 {
        for bit in 0..8 {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 1 << bit;
            let result = checked(&flipped, &Replayed::default(), &quoted.pcr);
            assert!(result.is_err(), "byte {at}, bit {bit}: {result:?}");
        }
    }
}

#[test]
fn what_was_done_to_a_list_is_the_reason() {
    let good = list(&["boot_aggregate", "/a", "/b", "/c"]);
    let quoted = end(good.as_bytes(), BANK);
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    let by_hand = BANK.digest([quoted.pcr.as_slice(), &[7; 32]]);
    let other_boot = {
        let mut text = String::new();
        line(&mut text, &[9; 32], "boot_aggregate");
        text + &joined(&lines[1..])
    };
    let other_pcr = joined(&[lines[0], &lines[1].replacen("10 ", "11 ", 1), lines[2]]);
    let changed = joined(&[lines[0], &lines[1].replace(" /a", " /x"), lines[2]]);
    let violation = {
        let said = lines[1].split(' ').nth(1).unwrap();
        joined(&[
            lines[0],
            &lines[1].replace(said, &"0".repeat(40)),
            lines[2],
            lines[3],
        ])
    };
    let unknown = joined(&[&lines[0].replace("ima-ng", "ima-xx")]);
    let no_match = "no line of the IMA list gives the quoted PCR 10, ";
    let lead = "lines 1 to 4 lead to ";
    let rows: [(&str, &str, &[u8], &[&str]); 9] = [
        (
            "stripped line",
            &joined(&[lines[0], lines[1], lines[3]]),
            &quoted.pcr,
            &[no_match, "lines 1 to 3 lead to ", "a line was left out"],
        ),
        (
            "swapped lines",
            &joined(&[lines[0], lines[2], lines[1], lines[3]]),
            &quoted.pcr,
            &[no_match, lead, "or moved"],
        ),
        (
            "other boot",
            &other_boot,
            &quoted.pcr,
            &[no_match, lead, "another boot's"],
        ),
        (
            "extended by hand",
            &good,
            &by_hand,
            &[no_match, lead, "something other than IMA"],
        ),
        (
            "violation made up",
            &violation,
            &quoted.pcr,
            &[no_match, lead],
        ),
        (
            "changed path",
            &changed,
            &quoted.pcr,
            &["line 2 of the IMA list was changed", "(/x)"],
        ),
        (
            "other PCR",
            &other_pcr,
            &quoted.pcr,
            &["line 2 ", "(/a)", "PCR 11"],
        ),
        (
            "other template",
            &unknown,
            &quoted.pcr,
            &["line 1 ", "\"ima-xx\" is not known"],
        ),
        (
            "text",
            "hello\n",
            &quoted.pcr,
            &["line 1 ", "it ends before its PCR"],
        ),
    ];
    for (name, list, quoted, wanted) in rows {
        let error = checked(list.as_bytes(), &Replayed::default(), quoted);
        let text = error.unwrap_err().to_string();
        for part in wanted {
            assert!(text.contains(part), "{name}: {part:?} isn't in {text:?}");
        }
    }
}

#[test]
fn a_judge_sees_the_lines_up_to_the_match() {
    let text = list(&["boot_aggregate", "/a", "/bad", "/b"]);
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    for (name, quoted, wanted) in [
        ("before it", 2, Ok(2)),
        ("at it", 3, Err((3, "/bad"))),
        ("after it", 4, Err((3, "/bad"))),
    ] {
        let quoted = end(&text.as_bytes()[..ends[quoted - 1]], BANK);
        let mut seen = Vec::new();
        let mut judge = |entry: &Entry<'_>| {
            seen.push(entry.line);
            if entry.path == b"/bad" {
                Err("/bad")
            } else {
                Ok(())
            }
        };
        let from = Replayed::default();
        let result = check(text.as_bytes(), BANK, &from, &quoted.pcr, 0, &mut judge);
        let result = result.map(|matched| matched.replayed.lines);
        let wanted = wanted.map_err(|(line, reason)| ImaError::Refused { line, reason });
        let last = result.clone().unwrap_or(3);
        assert_eq!(result, wanted, "{name}");
        assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "{name}");
    }
}
