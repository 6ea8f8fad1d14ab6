#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use agent_core::wire::manifest::PayloadId;
use agent_core::wire::quote::HashAlg;
use agent_core::wire::receipt::Reached;

use super::*;
use crate::deposit::software::{Quoting, SoftwareNode};

fn uuid() -> Uuid {
    Uuid::parse("node-1").unwrap()
}

fn receipt(agent: &Uuid) -> Vec<u8> {
    let receipt = Receipt {
        agent: agent.clone(),
        payload_id: PayloadId([1; 8]),
        reached: Reached::Finished,
        exit_code: Some(0),
        signal: None,
        timed_out: false,
        duration_ms: Some(12),
        error: None,
    };
    let mut text = String::new();
    receipt.write(&mut text).unwrap();
    text.into_bytes()
}

fn cap(pcr: u8) -> Option<CapPcr> {
    Some(CapPcr::at_zero(pcr, HashAlg::Sha256))
}

#[test]
fn a_receipt_is_the_nodes_own_word() {
    let node = SoftwareNode::new();
    let bytes = receipt(&uuid());
    for (name, value, asked, wanted) in [
        ("capped", [3; 32], cap(15), Some(true)),
        ("not capped", [0; 32], cap(15), Some(false)),
        ("of another deposit", [3; 32], None, None),
    ] {
        let quoting = node.quoting(&uuid(), &bytes, (15, &value));
        let view = node.view(&bytes, &quoting);
        let checked = check(&node.ak(), &uuid(), &view, |_| asked).unwrap();
        assert_eq!(
            (checked.capped, checked.reset_count, checked.restart_count),
            (wanted, 7, 1),
            "{name}"
        );
        assert_eq!(checked.receipt.exit_code, Some(0));
    }
}

#[test]
fn a_receipt_that_does_not_hold_says_why() {
    let node = SoftwareNode::new();
    let bytes = receipt(&uuid());
    let good = || node.quoting(&uuid(), &bytes, (15, &[3; 32]));
    let view = |quoting: Quoting| node.view(&bytes, &quoting);
    let other = Uuid::parse("node-2").unwrap();
    let changed = String::from_utf8(bytes.clone())
        .unwrap()
        .replace("\"exit_code\":0", "\"exit_code\":1");
    let others = receipt(&other);
    let rows: Vec<(&str, ReceiptView, ReceiptFault)> = vec![
        (
            "another TPM",
            SoftwareNode::new().view(&bytes, &good()),
            ReceiptFault::Signature,
        ),
        (
            "another exit code",
            node.view(changed.as_bytes(), &good()),
            ReceiptFault::Statement,
        ),
        (
            "another challenge than quoted",
            ReceiptView {
                challenge: BASE64.encode([6; 16]),
                ..view(good())
            },
            ReceiptFault::Challenge,
        ),
        (
            "another challenge than stated",
            view(Quoting {
                challenge: vec![6; 16],
                ..good()
            }),
            ReceiptFault::Statement,
        ),
        (
            "no challenge of a session",
            view(Quoting {
                challenge: vec![5; 20],
                ..good()
            }),
            ReceiptFault::Encoding { field: "challenge" },
        ),
        (
            "a statement of a release",
            {
                let digest = statement::release(HashAlg::Sha256, &uuid(), &[5; 16], &[1; 32]);
                let mut quoting = good();
                quoting.values[2].1 = statement::pcr_value(HashAlg::Sha256, &digest).to_vec();
                view(quoting)
            },
            ReceiptFault::Statement,
        ),
        (
            "no PCR 16",
            {
                let mut quoting = good();
                quoting.values.truncate(2);
                view(quoting)
            },
            ReceiptFault::Selection { pcr: 16 },
        ),
        (
            "no cap PCR",
            {
                let mut quoting = good();
                quoting.values.remove(1);
                view(quoting)
            },
            ReceiptFault::Selection { pcr: 15 },
        ),
        (
            "values that weren't signed",
            {
                let mut quoting = good();
                quoting.values[1].1 = vec![0; 32];
                ReceiptView {
                    subject_data: view(quoting).subject_data,
                    ..view(good())
                }
            },
            ReceiptFault::Values,
        ),
        (
            "another node's",
            node.view(&others, &node.quoting(&uuid(), &others, (15, &[3; 32]))),
            ReceiptFault::AnotherNode {
                have: "node-2".to_owned(),
            },
        ),
        (
            "no base64",
            ReceiptView {
                message: "!".to_owned(),
                ..view(good())
            },
            ReceiptFault::Encoding { field: "message" },
        ),
        (
            "endless",
            ReceiptView {
                receipt: "A".repeat(MAX_FIELD_BYTES + 4),
                ..view(good())
            },
            ReceiptFault::Encoding { field: "receipt" },
        ),
    ];
    for (name, view, wanted) in rows {
        let result = check(&node.ak(), &uuid(), &view, |_| cap(15));
        assert_eq!(result, Err(wanted), "{name}");
    }
    let moved = check(&node.ak(), &other, &view(good()), |_| cap(15));
    assert_eq!(moved, Err(ReceiptFault::Statement));
}
