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
        let key = key.replace('-', "_");
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
