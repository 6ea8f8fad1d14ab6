//! `--tpm_policy`, as the verifier gets it.

use agent_core::wire::quote::PcrMask;
use serde_json::{Map, Value, json};
use verifier_host::policy::tpm::TpmPolicy;

use crate::error::Failure;

/// The policy as it goes to the verifier.
pub(super) struct Policy {
    /// JSON text.
    pub(super) text: String,
    /// Whether it names no PCR, so that every boot passes as far as it goes.
    pub(super) is_empty: bool,
}

impl Policy {
    /// Checks the policy and writes it with its mask, each value in a list, as Keylime's verifier wants it. PCRs that other
    /// policies decide about, by their logs, are in the mask too, and may not be named.
    ///
    /// Source: `process_policy` in Keylime's `cli/policies.py`.
    pub(super) fn parse(text: &str, logged: PcrMask) -> Result<Self, Failure> {
        let policy = TpmPolicy::parse(text)?;
        policy.refuse(logged, "another policy decides about it by its log")?;
        let mask = logged.iter().fold(policy.mask(), PcrMask::with);
        // Parsed and checked above; what isn't an object got no further.
        let given: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let mut written = Map::new();
        for (name, value) in given.into_iter().filter(|(name, _)| name != "mask") {
            let values = match value {
                Value::Array(values) => values,
                single => vec![single],
            };
            let lower = values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_ascii_lowercase);
            written.insert(name, lower.collect());
        }
        written.insert("mask".to_owned(), json!(format!("{:#x}", mask.bits())));
        Ok(Self {
            text: Value::Object(written).to_string(),
            is_empty: policy.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use verifier_host::policy::{IMA_PCRS, MEASURED_BOOT_PCRS};

    use super::*;

    #[test]
    fn a_policy_gets_its_mask() {
        let digest = "AB".repeat(32);
        let lower = digest.to_lowercase();
        let rows = [
            ("none", "{}".to_owned(), json!({"mask": "0x0"})),
            (
                "text",
                format!("{{\"23\": \"{digest}\"}}"),
                json!({"23": [lower], "mask": "0x800000"}),
            ),
            (
                "list",
                format!("{{\"0\": [\"{digest}\"], \"7\": [\"{digest}\"]}}"),
                json!({"0": [lower], "7": [lower], "mask": "0x81"}),
            ),
            (
                "wider mask",
                format!("{{\"0\": \"{digest}\", \"mask\": \"0x2\"}}"),
                json!({"0": [lower], "mask": "0x3"}),
            ),
        ];
        for (name, text, wanted) in rows {
            let policy = Policy::parse(&text, PcrMask::EMPTY).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(&policy.text).unwrap(),
                wanted,
                "{name}"
            );
            assert_eq!(policy.is_empty, name == "none", "{name}");
        }
        assert!(Policy::parse("{\"16\": \"00\"}", PcrMask::EMPTY).is_err());
        assert!(Policy::parse("[]", PcrMask::EMPTY).is_err());
    }

    /// Masks: what Keylime 7.14.3's tenant makes of the same options.
    #[test]
    fn logs_bring_their_pcrs() {
        let all = IMA_PCRS.iter().fold(MEASURED_BOOT_PCRS, PcrMask::with);
        let digest = "00".repeat(32);
        let named = |pcr: u8| format!("{{\"{pcr}\": \"{digest}\"}}");
        let rows = [
            ("IMA", "{}".to_owned(), IMA_PCRS, Some("0x400")),
            ("boot", "{}".to_owned(), MEASURED_BOOT_PCRS, Some("0xfbff")),
            ("both", named(23), all, Some("0x80ffff")),
            ("boot and 7", named(7), MEASURED_BOOT_PCRS, None),
            ("boot and 15", named(15), MEASURED_BOOT_PCRS, None),
            ("IMA and 7", named(7), IMA_PCRS, Some("0x480")),
            ("IMA and 10", named(10), IMA_PCRS, None),
        ];
        for (name, text, logged, wanted) in rows {
            let policy = Policy::parse(&text, logged).ok();
            let policy = policy.map(|policy| serde_json::from_str::<Value>(&policy.text).unwrap());
            let mask = policy
                .as_ref()
                .map(|policy| policy["mask"].as_str().unwrap());
            assert_eq!(mask, wanted, "{name}");
        }
    }
}
