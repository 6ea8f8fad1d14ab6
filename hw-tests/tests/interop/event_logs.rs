//! Event logs under reference states: our verdicts and those of Keylime's own example policy.

use std::fs;
use std::path::Path;

use agent_core::wire::quote::HashAlg;
use hw_tests::Result;
use hw_tests::keylime;
use hw_tests::machine::Machine;
use hw_tests::site::story;
use serde_json::{Value, json};
use verifier_host::evidence::eventlog::{EventLog, EventType};
use verifier_host::policy::measured_boot::MeasuredBootPolicy;

/// A reference state over a log, and who lets it pass.
struct Case {
    name: String,
    refstate: Value,
    log: Vec<u8>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Refused,
    /// By us: Keylime believes what wasn't measured, or wasn't quoted.
    RefusedByUsAlone,
}

const GOOD: &str = "ovmf-shim-grub";

#[test]
fn keylimes_example_policy_agrees_on_each_log() {
    story(|site| {
        let machine = Machine::new(site, "keylime")?;
        keylime::configure(&machine)?;
        let cases = cases()?;
        let file = machine.work().join("cases.json");
        let theirs: Vec<_> = cases
            .iter()
            .map(|case| json!({"refstate": case.refstate, "log": case.log}))
            .collect();
        fs::write(&file, serde_json::to_string(&theirs)?)?;
        let output = keylime::python(&machine)
            .args(["-c", include_str!("judge_event_logs.py")])
            .arg(&file)
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let verdicts: Vec<&str> = text.lines().collect();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(verdicts.len(), cases.len(), "{text}{said}");
        for (case, theirs) in cases.iter().zip(verdicts) {
            let ours = judge(case);
            let verdict = match (&ours, theirs) {
                (Ok(()), "passed") => Verdict::Passed,
                (Err(_), "passed") => Verdict::RefusedByUsAlone,
                (Err(_), _) => Verdict::Refused,
                (Ok(()), _) => {
                    return Err(format!("{}: we pass it, Keylime: {theirs}", case.name).into());
                }
            };
            assert_eq!(
                verdict, case.verdict,
                "{}: ours {ours:?}, Keylime's {theirs}",
                case.name
            );
        }
        Ok(())
    });
}

fn judge(case: &Case) -> std::result::Result<(), String> {
    let policy = MeasuredBootPolicy::read(case.refstate.to_string().as_bytes())
        .map_err(|error| error.to_string())?;
    let log = EventLog::parse(&case.log).map_err(|error| error.to_string())?;
    policy
        .judge(&log, HashAlg::Sha256)
        .map_err(|failure| failure.to_string())
}

fn cases() -> Result<Vec<Case>> {
    let refstate: Value = serde_json::from_slice(&vector(&format!("{GOOD}.refstate.json"))?)?;
    let log = vector(&format!("{GOOD}.bin"))?;
    let mut cases = vec![Case {
        name: "as it was".to_owned(),
        refstate: refstate.clone(),
        log: log.clone(),
        verdict: Verdict::Passed,
    }];
    for other in ["ovmf-efi-stub", "ovmf-uki", "tss-hcrtm", "cel-example"] {
        cases.push(Case {
            name: other.to_owned(),
            refstate: refstate.clone(),
            log: vector(&format!("{other}.bin"))?,
            verdict: Verdict::Refused,
        });
    }
    for (pointer, value, verdict) in changes() {
        let mut refstate = refstate.clone();
        let place = refstate.pointer_mut(pointer).ok_or(pointer)?;
        *place = value.clone();
        cases.push(Case {
            name: format!("{pointer} = {value}"),
            refstate,
            log: log.clone(),
            verdict,
        });
    }
    for (name, changed, verdict) in lies(&log)? {
        cases.push(Case {
            name: name.to_owned(),
            refstate: refstate.clone(),
            log: changed,
            verdict,
        });
    }
    Ok(cases)
}

/// Other reference states.
fn changes() -> Vec<(&'static str, Value, Verdict)> {
    use Verdict::{Passed, Refused};
    let other = json!("0x00000000000000000000000000000000000000000000000000000000000000ff");
    let key =
        json!({"SignatureOwner": "26dc4851-195f-4ae1-9a19-fbf883bbb35e", "SignatureData": other});
    vec![
        ("/kernels/0/shim_authcode_sha256", other.clone(), Refused),
        ("/kernels/0/grub_authcode_sha256", other.clone(), Refused),
        ("/kernels/0/kernel_authcode_sha256", other.clone(), Refused),
        ("/kernels/0/initrd_plain_sha256", other.clone(), Refused),
        ("/kernels/0/kernel_cmdline", json!("/vmlinuz .*"), Passed),
        ("/kernels/0/kernel_cmdline", json!("/vmlinuz"), Refused),
        (
            "/kernels/0/kernel_cmdline",
            json!("console=ttyS0 .*"),
            Refused,
        ),
        ("/kernels", json!([]), Refused),
        ("/scrtm_and_bios", json!([]), Refused),
        ("/scrtm_and_bios/0/scrtm", json!({}), Refused),
        ("/scrtm_and_bios/0/scrtm/sha256", other.clone(), Refused),
        (
            "/scrtm_and_bios/0/platform_firmware/0/sha256",
            other.clone(),
            Refused,
        ),
        ("/scrtm_and_bios/0/platform_firmware", json!([]), Refused),
        ("/pk", json!([]), Refused),
        ("/kek", json!([]), Refused),
        ("/db", json!([]), Refused),
        ("/dbx", json!([]), Passed),
        ("/dbx/0", key.clone(), Refused),
        ("/vendor_db", json!([key]), Passed),
        ("/mokdig", json!([]), Refused),
        ("/mokxdig", json!([]), Refused),
        ("/has_secureboot", json!(false), Refused),
    ]
}

/// Logs that say what wasn't measured. Their PCRs are for the quote to compare: nothing of that is judged here.
fn lies(log: &[u8]) -> Result<Vec<(&'static str, Vec<u8>, Verdict)>> {
    use Verdict::{Refused, RefusedByUsAlone};
    let parsed = EventLog::parse(log)?;
    let at =
        |number: usize, within: &dyn Fn(&verifier_host::evidence::eventlog::Event<'_>) -> usize| {
            parsed
                .events()
                .nth(number)
                .map(|event| within(&event) - log.as_ptr() as usize)
        };
    let change = |place: Option<usize>| -> Result<Vec<u8>> {
        let mut changed = log.to_vec();
        changed[place.ok_or("the log has no such event")?] ^= 1;
        Ok(changed)
    };
    let data = |number, offset: usize| at(number, &|event| event.data.as_ptr() as usize + offset);
    let digest = |number| {
        at(number, &|event| {
            let digest = event.digest(HashAlg::Sha256).unwrap_or_default();
            digest.as_ptr() as usize
        })
    };
    let numbers = |wanted: EventType| -> Vec<usize> {
        let kinds = parsed.events().enumerate();
        kinds
            .filter(|(_, event)| event.kind == wanted)
            .map(|(number, _)| number)
            .collect()
    };
    let separator = numbers(EventType::SEPARATOR)[0];
    let command_line = 44;
    Ok(vec![
        ("Secure Boot said to be off", change(data(4, 52))?, Refused),
        (
            "a separator with a right SHA-1 digest alone",
            change(digest(separator))?,
            RefusedByUsAlone,
        ),
        (
            "a variable with a wrong digest",
            change(digest(7))?,
            RefusedByUsAlone,
        ),
        (
            "a command line with a wrong digest",
            change(digest(command_line))?,
            RefusedByUsAlone,
        ),
        ("another image", change(digest(27))?, Refused),
        ("another initramfs", change(digest(46))?, Refused),
        (
            "a separator of an error",
            change(data(separator, 0))?,
            Refused,
        ),
    ])
}

fn vector(name: &str) -> Result<Vec<u8>> {
    let vectors =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-host/tests/vectors/eventlog");
    Ok(fs::read(vectors.join(name))?)
}
