//! The logs of a boot go along with its quotes: our programs, a real TPM, and files in place of the kernel's.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::process::{LIMIT, until};
use hw_tests::raw::Client;
use hw_tests::servers::Verifier;
use hw_tests::site::{Site, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use serde_json::{Value, json};

const LINES: [&str; 3] = [
    "10 f33bbf5b5aff7a2dd4d4a1f5d1a2f5ee7d7d2a54 ima-ng sha256:4f1f boot_aggregate\n",
    "10 0a5f7c2d1b3e4f60718293a4b5c6d7e8f9012345 ima-ng sha256:9c3e /usr/bin/\"quoted\\name\"\n",
    "10 1c5f7c2d1b3e4f60718293a4b5c6d7e8f9012345 ima-ng sha256:77aa /usr/bin/gr\u{fc}n\n",
];

/// Files in place of the kernel's logs, and the options that name them.
struct Logs {
    ima: String,
    boot: String,
}

impl Logs {
    fn new(site: &Site) -> Result<Self> {
        let path = |name: &str| site.dir().join(name).to_string_lossy().into_owned();
        let logs = Self {
            ima: path("ascii_runtime_measurements"),
            boot: path("binary_bios_measurements"),
        };
        fs::write(&logs.ima, LINES.concat())?;
        fs::write(&logs.boot, [7; 1000])?;
        Ok(logs)
    }

    fn options(&self) -> [&str; 4] {
        [
            "--ima-ml-path",
            &self.ima,
            "--measuredboot-ml-path",
            &self.boot,
        ]
    }
}

fn append(path: &str, line: &str) -> Result {
    let mut file = File::options().append(true).open(Path::new(path))?;
    Ok(file.write_all(line.as_bytes())?)
}

/// List, entry and boot log of an answer.
fn asked(client: &Client, mask: &str, entry: u64) -> Result<[Value; 3]> {
    let path =
        format!("/v2.6/quotes/integrity?nonce=abc&mask={mask}&partial=1&ima_ml_entry={entry}");
    let results = client.get(&path)?.results()?;
    let member = |name: &str| results.get(name).cloned().unwrap_or_default();
    Ok([
        member("ima_measurement_list"),
        member("ima_measurement_list_entry"),
        member("mb_measurement_list"),
    ])
}

#[test]
fn logs_go_along_with_quotes() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let logs = Logs::new(site)?;
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &logs.options())?;
        let client = verifier.client_of(&node)?;
        // 1000 bytes: the last one stands alone.
        let boot = format!("{}Bw==", "BwcH".repeat(333));
        let all = LINES.concat();
        let none = Value::Null;
        assert_eq!(
            asked(&client, "0x401", 0)?,
            [json!(all), json!(0), json!(boot)]
        );
        assert_eq!(
            asked(&client, "0x400", 2)?,
            [json!(LINES[2]), json!(2), none.clone()]
        );
        assert_eq!(
            asked(&client, "0x400", 3)?,
            [json!(""), json!(3), none.clone()]
        );
        assert_eq!(
            asked(&client, "0x400", 4)?,
            [json!(all), json!(0), none.clone()]
        );
        append(&logs.ima, LINES[0])?;
        assert_eq!(
            asked(&client, "0x400", 3)?,
            [json!(LINES[0]), json!(3), none]
        );
        Ok(())
    });
}

#[test]
fn nodes_without_logs_send_none() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let options = ["--ima-ml-path", "", "--measuredboot-ml-path", ""];
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &options)?;
        let client = verifier.client_of(&node)?;
        let none = [Value::Null, Value::Null, Value::Null];
        assert_eq!(asked(&client, "0x401", 0)?, none);
        Ok(())
    });
}

/// Both ways, with a policy that asks for none of the logs.
#[test]
fn logs_that_nobody_asks_for_do_no_harm() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let logs = Logs::new(site)?;
        let interval = ["--attestation-interval-seconds", "1"];
        let options = [&logs.options()[..], &interval].concat();
        let mut node = Node::calling(&verifier, Swtpm::fresh(site)?, "push", &options)?;
        node.launch()?;
        let uuid = node.wait_until_registered()?;
        let add = [
            "-c",
            "add",
            "-u",
            &uuid,
            "--push-model",
            "--tpm_policy",
            POLICY,
        ];
        tenant.does(&add)?;
        let client = verifier.client()?;
        let path = format!("/v2.6/agents/{uuid}");
        until(LIMIT, "a pass", || {
            let record = client.get(&path).ok()?.results().ok()?;
            (record["attestation_status"] == "PASS").then_some(())
        })
    });
}

const POLICY: &str = r#"{"0": "0000000000000000000000000000000000000000000000000000000000000000"}"#;
