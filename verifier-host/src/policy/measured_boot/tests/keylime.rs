use super::*;

fn refstate() -> serde_json::Value {
    serde_json::from_slice(&file("ovmf-shim-grub.refstate.json")).unwrap()
}

fn verdict(refstate: &serde_json::Value, log: &[u8]) -> Result<(), String> {
    let policy = MeasuredBootPolicy::read(refstate.to_string().as_bytes());
    let policy = policy.map_err(|error| error.to_string())?;
    let log = EventLog::parse(log).unwrap();
    let result = policy.judge(&log, HashAlg::Sha256);
    result.map_err(|failure| failure.to_string())
}

#[test]
fn reference_states_of_keylimes_tool_are_taken_as_they_are() {
    let log = file("ovmf-shim-grub.bin");
    assert_eq!(verdict(&refstate(), &log), Ok(()));
    let policy = MeasuredBootPolicy::read(&file("ovmf-shim-grub.refstate.json")).unwrap();
    assert!(!policy.says_nothing());
    assert_eq!(policy.pcrs().bits(), 0x43FF);
    let parsed = EventLog::parse(&log).unwrap();
    let failure = policy.judge(&parsed, HashAlg::Sha384).unwrap_err();
    assert_eq!(failure.event(), "measured_boot.policy_example");
    for other in ["ovmf-uki", "ovmf-efi-stub", "tss-hcrtm", "cel-example"] {
        let bytes = file(&format!("{other}.bin"));
        assert!(verdict(&refstate(), &bytes).is_err(), "{other}");
    }
}

#[test]
fn each_field_of_the_reference_state_decides() {
    let log = file("ovmf-shim-grub.bin");
    let other = format!("0x{FREE}");
    for (pointer, value, expected) in [
        (
            "/kernels/0/shim_authcode_sha256",
            other.clone().into(),
            "is not shim_authcode_sha256",
        ),
        (
            "/kernels/0/grub_authcode_sha256",
            other.clone().into(),
            "is not grub_authcode_sha256",
        ),
        (
            "/kernels/0/kernel_authcode_sha256",
            other.clone().into(),
            "is not kernel_authcode_sha256",
        ),
        (
            "/kernels/0/initrd_plain_sha256",
            other.clone().into(),
            "is not initrd_plain_sha256",
        ),
        (
            "/kernels/0/kernel_cmdline",
            "/vmlinuz quiet".into(),
            "does not match kernel_cmdline",
        ),
        (
            "/kernels",
            serde_json::json!([]),
            "kernels of the reference state: it lists none",
        ),
        (
            "/scrtm_and_bios/0/scrtm/sha256",
            other.clone().into(),
            "is not scrtm",
        ),
        (
            "/scrtm_and_bios/0/platform_firmware/1/sha256",
            other.clone().into(),
            "is not in platform_firmware",
        ),
        (
            "/scrtm_and_bios/0/platform_firmware",
            serde_json::json!([]),
            "2 parts of platform_firmware instead of 0",
        ),
        ("/pk", serde_json::json!([]), "event 5 (PCR 7"),
        ("/kek", serde_json::json!([]), "event 6 (PCR 7"),
        ("/db", serde_json::json!([]), "event 7 (PCR 7"),
        ("/dbx/0/SignatureData", other.into(), "event 8 (PCR 7"),
        (
            "/mokdig",
            serde_json::json!([]),
            "its digest is not in mokdig",
        ),
        (
            "/mokxdig",
            serde_json::json!([]),
            "its digest is not in mokxdig",
        ),
    ] {
        let mut refstate = refstate();
        *refstate.pointer_mut(pointer).unwrap() = value;
        let failure = verdict(&refstate, &log).expect_err(pointer);
        assert!(failure.contains(expected), "{pointer}: {failure}");
    }
}

/// In Keylime a right SHA-1 digest is enough, though SHA-256 was quoted.
#[test]
fn digests_of_other_banks_do_not_count() {
    let mut log = file("ovmf-shim-grub.bin");
    let parsed = EventLog::parse(&log).unwrap();
    let separator = parsed.events().nth(9).unwrap();
    let digest = separator.digest(HashAlg::Sha256).unwrap();
    let at = digest.as_ptr() as usize - log.as_ptr() as usize;
    log[at] ^= 1;
    let failure = verdict(&refstate(), &log).unwrap_err();
    assert!(
        failure.starts_with("event 9 (PCR 7, EV_SEPARATOR)"),
        "{failure}"
    );
}
