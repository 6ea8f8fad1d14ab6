//! What the kernel's command line says: `keyhalf.KEY=VALUE`.
//!
//! Whoever can write there (a boot loader's menu, a network boot server) isn't trusted with whose payloads run, whose verifier
//! counts, or what is capped. So only keys that say where and how long are taken; another one changes nothing but the log.
//!
//! Source: Linux, Documentation/admin-guide/kernel-parameters.rst (quotes, `-` and `_`).

use super::options::OPTIONS;
use super::{Found, Source};

/// Adds what the command line says to what was found; who said it before is stronger.
pub(super) fn add(text: &str, found: &mut Found, warnings: &mut Vec<String>) {
    let mut refused = Vec::new();
    // Of several equal ones the last counts, as with the kernel's own parameters.
    for word in words(text).into_iter().rev() {
        let Some((key, value)) = word
            .strip_prefix(PREFIX)
            .and_then(|word| word.split_once('='))
        else {
            continue;
        };
        if BOOT_SCRIPTS.contains(&key) {
            continue;
        }
        let key = key.replace('-', "_");
        let key = SHORT
            .iter()
            .find_map(|(short, long)| (*short == key).then_some((*long).to_owned()))
            .unwrap_or(key);
        match OPTIONS.iter().find(|option| option.key == key) {
            Some(option) if option.is_from_boot() => {
                found
                    .entry(option.key)
                    .or_insert((value.to_owned(), Source::KernelCommandLine));
            }
            _ => refused.push(key),
        }
    }
    if !refused.is_empty() {
        refused.reverse();
        warnings.push(format!(
            "the kernel command line isn't asked for these, so they have no effect there: {}",
            refused.join(", ")
        ));
    }
}

/// Words with white space between them; within quotation marks it belongs to the word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted) = (String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            letter => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

const PREFIX: &str = "keyhalf.";

/// Words with a shorter name here than their option has.
const SHORT: [(&str, &str); 1] = [("verifier", "verifier_url")];

/// Words that the initramfs's script `keyhalf-boot` reads, in its spelling: none of them is for the agent.
const BOOT_SCRIPTS: [&str; 2] = ["net", "on-failure"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let rows = [
            ("", "", 0),
            ("quiet root=/dev/sda1 keyhalfx.uuid=a uuid=b", "", 0),
            ("keyhalf.uuid=node1 quiet", "uuid=node1", 0),
            (
                "keyhalf.verifier-url=https://[::1]:1\n",
                "verifier_url=https://[::1]:1",
                0,
            ),
            ("keyhalf.uuid=a keyhalf.uuid=b", "uuid=b", 0),
            ("\"keyhalf.verifier_url=a, b\" x", "verifier_url=a, b", 0),
            ("keyhalf.verifier_url=\"a, b\"", "verifier_url=a, b", 0),
            (
                "keyhalf.verifier=https://192.0.2.1:8881",
                "verifier_url=https://192.0.2.1:8881",
                0,
            ),
            (
                "keyhalf.verifier=a keyhalf.verifier-url=b",
                "verifier_url=b",
                0,
            ),
            ("keyhalf.net=dhcp keyhalf.on-failure=shell", "", 0),
            // The script doesn't know it, so somebody has to say so.
            ("keyhalf.on_failure=shell", "", 1),
            ("keyhalf.uuid", "", 0),
            ("keyhalf.nonsense=1", "", 1),
        ];
        for (text, wanted, warned) in rows {
            let (mut found, mut warnings) = (Found::new(), Vec::new());
            add(text, &mut found, &mut warnings);
            let got: Vec<_> = found
                .iter()
                .map(|(key, (value, _))| format!("{key}={value}"))
                .collect();
            assert_eq!(got.join(" "), wanted, "{text:?}");
            assert_eq!(warnings.len(), warned, "{text:?}");
        }
    }

    #[test]
    fn the_documentation_has_every_word() {
        let text = include_str!("../../docs/kernel-command-line.md");
        let options = OPTIONS.iter().filter(|option| option.is_from_boot());
        let words = options.map(|option| option.flag()).chain(
            SHORT
                .iter()
                .map(|(short, _)| *short)
                .chain(BOOT_SCRIPTS)
                .map(str::to_owned),
        );
        for word in words {
            assert!(text.contains(&format!("| `keyhalf.{word}=")), "{word}");
        }
    }

    #[test]
    fn trust_is_not_taken_from_the_boot_loader() {
        for key in [
            "tenant_signer",
            "verifier_cert",
            "verifier_tls_ca_cert",
            "trusted_client_ca",
            "tenant_cert",
            "revocation_cert",
            // Where trust is read from.
            "config",
            "keylime_dir",
            // What would leave the TPM uncapped, or an old payload good.
            "tcti",
            "cap_pcr",
            "floor_index",
            "last_good",
            "payload_script",
            "run_as",
        ] {
            let (mut found, mut warnings) = (Found::new(), Vec::new());
            add(&format!("keyhalf.{key}=x"), &mut found, &mut warnings);
            assert!(found.is_empty(), "{key}");
            assert!(warnings[0].ends_with(&format!(": {key}")), "{warnings:?}");
        }
    }
}
