//! `--tpm_policy`, as the verifier gets it.

use serde_json::{Map, Value, json};
use verifier_host::policy::tpm::TpmPolicy;

use crate::error::Failure;

/// The policy as it goes to the verifier.
pub(super) struct Policy {
    /// JSON text.
    pub(super) text: String,
    /// Whether it names no PCR, so that every boot passes.
    pub(super) is_empty: bool,
}

impl Policy {
    /// Checks the policy and writes it with its mask, each value in a list, as Keylime's verifier wants it.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let policy = TpmPolicy::parse(text)?;
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
        written.insert(
            "mask".to_owned(),
            json!(format!("{:#x}", policy.mask().bits())),
        );
        Ok(Self {
            text: Value::Object(written).to_string(),
            is_empty: policy.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

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
            let policy = Policy::parse(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<Value>(&policy.text).unwrap(),
                wanted,
                "{name}"
            );
            assert_eq!(policy.is_empty, name == "none", "{name}");
        }
        assert!(Policy::parse("{\"16\": \"00\"}").is_err());
        assert!(Policy::parse("[]").is_err());
    }
}
