//! Real event logs: read as tpm2-tools read them, and true to the TPMs beside which they were made.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use agent_core::wire::quote::{HashAlg, PcrMask};
use agent_core::wire::text::Hex;
use verifier_host::evidence::eventlog::EventLog;

const LOGS: [&str; 5] = [
    "cel-example",
    "ovmf-efi-stub",
    "ovmf-shim-grub",
    "ovmf-uki",
    "tss-hcrtm",
];

const BANKS: [HashAlg; 3] = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

fn vectors() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/eventlog"
    ))
}

/// Values by bank and PCR.
type Values = BTreeMap<(String, u8), String>;

fn replayed(bytes: &[u8]) -> Values {
    let log = EventLog::parse(bytes).unwrap();
    let mut values = Values::new();
    for bank in BANKS {
        let Some(replayed) = log.replay(bank) else {
            continue;
        };
        for (pcr, value) in (0..).zip(replayed.values()) {
            if let Some(value) = value {
                values.insert((bank.name().into(), pcr), Hex(value).to_string());
            }
        }
    }
    values
}

/// What follows the events in `tpm2_eventlog`'s output: `pcrs:`, then banks, then PCRs.
fn by_tpm2_tools(log: &str) -> Values {
    let output = Command::new("tpm2_eventlog")
        .arg(vectors().join(format!("{log}.bin")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{log}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, pcrs) = text.split_once("\npcrs:\n").unwrap();
    let (mut values, mut bank) = (Values::new(), String::new());
    for line in pcrs.lines() {
        let (name, value) = line.split_once(':').unwrap();
        match value.trim().strip_prefix("0x") {
            None => bank = name.trim().to_owned(),
            Some(value) => {
                values.insert((bank.clone(), name.trim().parse().unwrap()), value.into());
            }
        }
    }
    values.retain(|(bank, _), _| HashAlg::from_name(bank).is_some());
    values
}

#[test]
fn tpm2_tools_agree_on_each_logs_pcrs() {
    for log in LOGS {
        let bytes = fs::read(vectors().join(format!("{log}.bin"))).unwrap();
        let mut ours = replayed(&bytes);
        let mut theirs = by_tpm2_tools(log);
        assert!(!ours.is_empty(), "{log}");
        if log == "tss-hcrtm" {
            // Before 5.6 they start PCR 0 from zero there, other than the TPM did.
            ours.retain(|(_, pcr), _| *pcr != 0);
            theirs.retain(|(_, pcr), _| *pcr != 0);
        }
        assert_eq!(ours, theirs, "{log}");
    }
}

#[test]
fn logs_explain_their_tpms() {
    for log in LOGS {
        let Ok(text) = fs::read_to_string(vectors().join(format!("{log}.pcrs"))) else {
            continue;
        };
        let bytes = fs::read(vectors().join(format!("{log}.bin"))).unwrap();
        let log = EventLog::parse(&bytes).unwrap();
        let mut banks = 0;
        for bank in BANKS {
            let of_bank = text.lines().filter_map(|line| {
                let [name, pcr, value] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
                (name == bank.name()).then(|| (pcr.parse().unwrap(), bytes_of(value)))
            });
            let quoted: Vec<(u8, Vec<u8>)> = of_bank.collect();
            if quoted.is_empty() {
                continue;
            }
            // All but PCR 10.
            let asked = PcrMask::from_select([0xFF, 0xFB, 0]);
            let quoted = quoted.iter().map(|(pcr, value)| (*pcr, value.as_slice()));
            log.check(bank, quoted, asked).unwrap();
            banks += 1;
        }
        assert!(banks > 0);
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
