#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use agent_core::wire::text::Hex;

use super::testing::{SECTIONS, image, put};
use super::*;

const BANK: HashAlg = HashAlg::Sha256;

fn uki(stub: &str, sections: &[&str]) -> Vec<u8> {
    let kernel = image(&[(".text", b"the kernel")]);
    let magic = format!("#### LoaderInfo: systemd-stub {stub} ####\0");
    let mut all: Vec<(&str, &[u8])> = vec![(".text", b"the stub"), (".sdmagic", magic.as_bytes())];
    for name in sections {
        all.push((
            name,
            if *name == ".linux" {
                &kernel
            } else {
                name.as_bytes()
            },
        ));
    }
    image(&all)
}

fn unified(image: &[u8]) -> Result<Prediction, NextBootError> {
    let kind = Kind::Unified { image, phases: &[] };
    predict(&boot(kind), BANK)
}

const fn boot(kind: Kind<'_>) -> Boot<'_> {
    Boot {
        loaders: Vec::new(),
        kind,
        initrds: Vec::new(),
    }
}

/// The names of the sections that are measured.
fn measured(prediction: &Prediction) -> String {
    let pcr_11 = prediction
        .pcrs
        .iter()
        .find(|expected| expected.pcr == 11)
        .unwrap();
    let [course] = &pcr_11.courses[..] else {
        panic!("one course");
    };
    let names = course
        .events()
        .iter()
        .filter_map(|event| event.what.strip_prefix("the name "));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_stub_measures_its_sections() {
    let all = [
        ".sbat", ".pcrsig", ".pcrpkey", ".initrd", ".uname", ".ucode", ".hwids", ".cmdline",
        ".osrel", ".splash", ".dtb", ".linux",
    ];
    let rows = [
        (
            "252.39-1~deb12u2",
            ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey",
            "K",
        ),
        (
            "253",
            ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey",
            "K|",
        ),
        (
            "254.1",
            ".linux .osrel .cmdline .initrd .splash .dtb .uname .sbat .pcrpkey",
            "K|",
        ),
        (
            "256",
            ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey",
            "K|",
        ),
        (
            "257",
            ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey .hwids",
            "K|",
        ),
        (
            "258~devel",
            ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey .hwids",
            "",
        ),
    ];
    for (stub, names, pcr_4) in rows {
        let prediction = unified(&uki(stub, &all)).unwrap();
        assert_eq!(measured(&prediction), names, "{stub}");
        let has_kernel = |course: &Course| match course.events() {
            [_, _, _] => "",
            [_, _, _, kernel] if kernel.what.starts_with("the kernel in it") => "K",
            _ => "?",
        };
        let courses = &prediction.pcrs[0].courses;
        assert_eq!(
            courses.iter().map(has_kernel).collect::<Vec<_>>().join("|"),
            pcr_4,
            "{stub}"
        );
    }
}

#[test]
fn images_whose_measurements_are_not_known_are_refused() {
    let mut padded = uki("252", &[".linux", ".cmdline"]);
    put(&mut padded, SECTIONS + 3 * 40 + 8, &513_u32.to_le_bytes());
    let mut empty = uki("252", &[".linux", ".cmdline"]);
    put(&mut empty, SECTIONS + 3 * 40 + 8, &[0; 4]);
    let in_memory = |loaded| NextBootError::PaddedSection {
        section: ".cmdline",
        loaded,
        have: 512,
    };
    let chosen = |section| NextBootError::ChosenAtBoot { section };
    let rows = [
        ("no stub", image(&[(".linux", b"x")]), NextBootError::NoStub),
        ("no version", uki("", &[".linux"]), NextBootError::NoStub),
        (
            "a huge version",
            uki("99999999999", &[".linux"]),
            NextBootError::NoStub,
        ),
        (
            "an old stub",
            uki("251.4", &[".linux"]),
            NextBootError::OldStub { found: 251 },
        ),
        (
            "no kernel",
            uki("252", &[".initrd"]),
            NextBootError::NoKernel,
        ),
        (
            "two kernels",
            uki("252", &[".linux", ".linux"]),
            NextBootError::TwiceInUki { section: ".linux" },
        ),
        (
            "profiles",
            uki("257", &[".linux", ".profile"]),
            chosen(".profile"),
        ),
        (
            "device trees",
            uki("257", &[".linux", ".dtbauto"]),
            chosen(".dtbauto"),
        ),
        ("longer in memory", padded, in_memory(513)),
        ("nothing in memory", empty, in_memory(0)),
    ];
    for (name, image, wanted) in rows {
        assert_eq!(unified(&image).err(), Some(wanted), "{name}");
    }
}

/// A kernel whose header tells its release.
fn kernel(release: &str) -> Vec<u8> {
    let mut file = image(&[(".text", &[0; 0x400])]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x20e, &0x300_u16.to_le_bytes());
    put(
        &mut file,
        0x500,
        format!("{release} (someone) #1\0").as_bytes(),
    );
    file
}

#[test]
fn old_kernels_are_refused() {
    let rows = [
        ("6.1.0-56-cloud-amd64", true),
        ("6.12", true),
        ("7.0.0-rc1", true),
        ("10.0", true),
        ("6.0.19", false),
        ("5.15.148", false),
        ("no number", true),
    ];
    for (release, taken) in rows {
        let image = kernel(release);
        let kind = Kind::Kernel {
            image: &image,
            command_line: "quiet",
        };
        assert_eq!(predict(&boot(kind), BANK).is_ok(), taken, "{release}");
    }
}

#[test]
fn pcr_9_is_command_line_and_initramfs() {
    let utf_16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let options = |text: &str| BANK.digest([&utf_16(text)[..]]);
    let initrd = BANK.digest([&b"firstsecond"[..]]);
    let by_hand = |events: &[&[u8]]| {
        let extend = |value: Vec<u8>, event: &&[u8]| BANK.digest([&value[..], *event]).to_vec();
        Hex(&events.iter().fold(vec![0; 32], extend)).to_string()
    };
    let image = kernel("6.1.0");
    let loader = image_of_a_loader();
    let found = |command_line: &str, with_initrd: bool, with_loader: bool| {
        let boot = Boot {
            loaders: if with_loader {
                vec![&loader[..]]
            } else {
                Vec::new()
            },
            kind: Kind::Kernel {
                image: &image,
                command_line,
            },
            initrds: if with_initrd {
                vec![b"first", b"second"]
            } else {
                Vec::new()
            },
        };
        let prediction = predict(&boot, BANK)?;
        let pcr_9 = prediction
            .pcrs
            .iter()
            .find(|expected| expected.pcr == 9)
            .unwrap();
        let values = pcr_9
            .courses
            .iter()
            .map(|course| Hex(&course.value(BANK)).to_string());
        Ok::<_, NextBootError>(values.collect::<Vec<_>>())
    };
    let (open, closed) = (options("quiet"), options("quiet\0"));
    let with = |text: &str| {
        let [open, closed] = [options(text), options(&format!("{text}\0"))];
        let measured = [by_hand(&[&open, &initrd]), by_hand(&[&closed, &initrd])];
        (measured, [by_hand(&[&open]), by_hand(&[&closed])])
    };
    let ([open_measured, closed_measured], [open_alone, closed_alone]) = with("quiet initrd=a");
    let rows = [
        (
            "no initramfs",
            found("quiet", false, false),
            vec![by_hand(&[&open]), by_hand(&[&closed])],
        ),
        (
            "handed over",
            found("quiet", true, false),
            with("quiet").0.to_vec(),
        ),
        (
            "no command line",
            found("", true, false),
            vec![by_hand(&[&initrd])],
        ),
        ("nothing", found("", false, false), vec![by_hand(&[])]),
        (
            "read by the kernel",
            found("quiet initrd=a", true, false),
            vec![
                open_measured.clone(),
                open_alone,
                closed_measured.clone(),
                closed_alone,
            ],
        ),
        (
            "named, handed over",
            found("quiet initrd=a", true, true),
            vec![open_measured, closed_measured],
        ),
        (
            "another word",
            found("quiet noinitrd=a", true, false),
            with("quiet noinitrd=a").0.to_vec(),
        ),
    ];
    for (name, found, wanted) in rows {
        assert_eq!(found, Ok(wanted), "{name}");
    }
    assert_eq!(
        found("initrd=a", false, false),
        Err(NextBootError::MissingInitrd)
    );
}

fn image_of_a_loader() -> Vec<u8> {
    image(&[(".text", b"a loader")])
}

#[test]
fn what_is_not_measured_is_said() {
    let (image, loader) = (kernel("6.1.0"), image_of_a_loader());
    let notes = |command_line: &str, initrds: &[&'static [u8]], loaders: &[&Vec<u8>]| {
        let kind = Kind::Kernel {
            image: &image,
            command_line,
        };
        let boot = Boot {
            loaders: loaders.iter().map(|loader| loader.as_slice()).collect(),
            initrds: initrds.to_vec(),
            ..boot(kind)
        };
        predict(&boot, BANK).unwrap().notes
    };
    assert_eq!(notes("initrd=a", &[b"x"], &[]), [UNMEASURED_INITRD]);
    assert_eq!(notes("quiet", &[b"x"], &[]), [HANDED_OVER]);
    assert_eq!(notes("initrd=a", &[b"x"], &[&loader]), [""; 0]);
    assert_eq!(notes("quiet", &[], &[]), [""; 0]);
}

#[test]
fn loaders_are_measured_before_what_they_start() {
    let (loader, image) = (image_of_a_loader(), uki("252", &[".linux"]));
    let boot = Boot {
        loaders: vec![&loader],
        ..boot(Kind::Unified {
            image: &image,
            phases: &[],
        })
    };
    let prediction = predict(&boot, BANK).unwrap();
    let what = prediction.pcrs[0].courses[0].events().iter();
    let what: Vec<_> = what
        .map(|event| event.what.split(',').next().unwrap())
        .collect();
    assert_eq!(
        what[2..],
        [
            "a boot loader",
            "the unified kernel image",
            "the kernel in it"
        ]
    );
    // What it passes on is measured to PCR 12.
    assert!(prediction.pcrs.iter().all(|expected| expected.pcr != 12));
}

#[test]
fn phases_follow_the_sections() {
    let (image, phases) = (uki("252", &[".linux"]), ["enter-initrd".to_owned()]);
    let plain = unified(&image).unwrap().pcrs[1].courses[0].value(BANK);
    let kind = Kind::Unified {
        image: &image,
        phases: &phases,
    };
    let later = predict(&boot(kind), BANK).unwrap().pcrs[1].courses[0].value(BANK);
    let phase = BANK.digest([&b"enter-initrd"[..]]);
    assert_eq!(later, BANK.digest([&plain[..], &phase[..]]));
}
