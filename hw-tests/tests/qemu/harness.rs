//! What the other stories lean on: a failing boot shows itself, codes come through, and nothing stays behind.

use std::fs;

use hw_tests::Result;
use hw_tests::guest::Guest;
use hw_tests::guest::boot::Ended;
use hw_tests::guest::tpm::GuestTpm;
use hw_tests::site::{Site, story};

#[test]
fn console_of_a_failing_boot_is_shown() {
    story(|site| {
        let mut guest = Guest::new(site, GuestTpm::fresh(site)?)?;
        let broken = b"#!/bin/busybox false\n".to_vec();
        guest.initramfs().file("/init", 0o755, broken)?;
        let boot = guest.boot()?;
        assert!(boot.says("guest: ready").is_err());
        // What a story shows when it fails.
        let shown = site
            .logs()
            .iter()
            .any(|log| log.text().contains("Kernel panic"));
        assert!(shown, "the panic is in no log");
        assert_eq!(boot.wait_for_end()?, Ended::Off);
        Ok(())
    });
}

#[test]
fn codes_come_out_of_the_guest() {
    story(|site| {
        let guest = Guest::new(site, GuestTpm::fresh(site)?)?;
        for code in [0, 16] {
            let ended = guest.boot()?.say_goodbye(code)?;
            assert_eq!(ended, Ended::Reported(i32::from(code)));
        }
        Ok(())
    });
}

#[test]
fn commands_are_answered_byte_for_byte() {
    story(|site| {
        let guest = Guest::new(site, GuestTpm::fresh(site)?)?;
        let mut boot = guest.boot()?;
        for (line, code, text) in [
            ("true", 0, ""),
            ("exit 7", 7, ""),
            ("echo out; echo error >&2", 0, "out\nerror\n"),
            (r"printf 'a\r\n\tb\003'", 0, "a\r\n\tb\u{3}"),
        ] {
            let told = boot.shell(line)?;
            assert_eq!((told.code, told.text.as_str()), (code, text), "{line}");
        }
        let long = boot.does("seq 1 5000")?;
        assert_eq!(long.lines().count(), 5000);
        boot.power_off()
    });
}

#[test]
fn nothing_outlives_its_boot() {
    story(|site| {
        let guest = Guest::new(site, GuestTpm::fresh(site)?)?;
        let boot = guest.boot()?;
        boot.says("guest: init runs")?;
        assert_eq!(of_this_site(site)?, ["qemu-system-x86_64", "swtpm"]);
        drop(boot);
        assert!(of_this_site(site)?.is_empty());
        Ok(())
    });
}

/// Programs that run with a path of this site among their arguments.
fn of_this_site(site: &Site) -> Result<Vec<String>> {
    let dir = site.dir().display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // Not a process, or one that has just ended.
        let Ok(command) = fs::read_to_string(entry.path().join("cmdline")) else {
            continue;
        };
        let program = command.split('\0').next().unwrap_or_default();
        if command.contains(&dir) {
            found.push(program.to_owned());
        }
    }
    found.sort();
    Ok(found)
}
