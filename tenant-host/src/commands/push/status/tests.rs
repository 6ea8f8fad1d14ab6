#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use agent_core::wire::manifest::{Deliver, Manifest};
use agent_core::wire::quote::HashAlg;
use agent_core::wire::receipt::{Reached, Receipt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::OffsetDateTime;

use super::*;
use crate::ca::CaDirectory;
use crate::deposit::made::{Made, Recipient};
use crate::deposit::sealed::SealedFile;
use crate::deposit::software::SoftwareNode;
use crate::deposit::terms::Terms;
use crate::deposit::view::{AttestationView, DepositView, RefusalView, ReleaseView};
use crate::seal::list_file;

struct Story {
    node: SoftwareNode,
    uuid: Uuid,
    manifest: Manifest,
    record: Record,
    view: PayloadView,
}

fn story() -> Story {
    let root = tempfile::tempdir().unwrap();
    let (node, uuid) = (SoftwareNode::new(), Uuid::parse("node-1").unwrap());
    let time = OffsetDateTime::now_utc();
    let ca = CaDirectory::open_or_create(&root.path().join("ca"), None, time).unwrap();
    let signer = ca.payload_signer(None, time).unwrap();
    std::fs::write(root.path().join("file"), "x").unwrap();
    let entry = list_file(&root.path().join("file")).unwrap();
    let sealed = SealedFile::make(&uuid, None, &[entry]).unwrap();
    let terms = Terms {
        deliver: Deliver::PerBoot,
        floor: None,
        script: None,
        last_good_seconds: None,
        cap: CapPcr::at_zero(15, HashAlg::Sha256),
    };
    let (ek, ak) = (node.ek(), node.ak());
    let to = Recipient { ek: &ek, ak: &ak };
    let made = Made::new(sealed, to, terms, [0; 32], &signer, now()).unwrap();
    let body: Value = serde_json::from_slice(&made.to_body(false).unwrap()).unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    let digest = |bytes: &[u8]| Hex(&Sha256::digest(bytes)).to_string();
    let payload_id = made.manifest.payload_id.to_string();
    let record = Record {
        ak_tpm: BASE64.encode(ak.marshalled()),
        ek_hash: String::new(),
        payload_id: payload_id.clone(),
        floor: None,
        manifest_sha256: digest(&made.manifest_bytes),
        signer_sha256: digest(signer.certificate()),
        sealed_at: made.manifest.sealed_at,
    };
    let deposit = DepositView {
        payload_id,
        received_at: now(),
        manifest: text("manifest"),
        signature: text("signature"),
        signer: text("signer"),
    };
    let view = PayloadView {
        deposit: Some(deposit),
        ..PayloadView::default()
    };
    let manifest = made.manifest;
    Story {
        node,
        uuid,
        manifest,
        record,
        view,
    }
}

impl Story {
    fn receipt(&self, exit_code: i32, cap: u8) -> crate::deposit::view::ReceiptView {
        let receipt = Receipt {
            agent: self.uuid.clone(),
            payload_id: self.manifest.payload_id,
            reached: Reached::Finished,
            exit_code: Some(exit_code),
            signal: None,
            timed_out: false,
            duration_ms: Some(1200),
            error: None,
        };
        let mut text = String::new();
        receipt.write(&mut text).unwrap();
        let quoting = self
            .node
            .quoting(&self.uuid, text.as_bytes(), (15, &[cap; 32]));
        self.node.view(text.as_bytes(), &quoting)
    }

    fn status(&self) -> PayloadStatus {
        PayloadStatus::of(&self.uuid, &self.view, Some(&self.record), None)
    }
}

#[test]
fn status_shows_each_boot_by_receipts_that_verify() {
    let mut story = story();
    let id = story.manifest.payload_id.to_string();
    story.view.receipts = vec![story.receipt(0, 3)];
    story.view.releases = vec![ReleaseView {
        payload_id: id.clone(),
        at: 1_800_000_000,
        reset_count: 7,
        restart_count: 1,
    }];
    story.view.refusals = vec![
        RefusalView {
            at: 1_800_000_060,
            code: "capped".to_owned(),
            reset_count: Some(7),
            restart_count: Some(1),
            payload_id: None,
        },
        RefusalView {
            at: 1_800_000_061,
            code: "not-fresh".to_owned(),
            reset_count: None,
            restart_count: None,
            payload_id: None,
        },
    ];
    story.view.attestation = Some(AttestationView {
        status: "pass".to_owned(),
        at: Some(now()),
        reason: None,
    });
    let status = story.status();
    assert_eq!(status.exit, Exit::Done, "{}", status.text);
    for wanted in [
        "to each boot; no script; no floor counter: the node can't notice an older deposit",
        "attested:  passed 0 s ago",
        &format!("boot 7.1   {id} released 2027-01-15T08:00:00Z"),
        "refused (capped) 2027-01-15T08:01:00Z",
        &format!("{id} received, opened, unpacked; script exit code 0 (1200 ms); capped"),
        "refused:   not-fresh, 2027-01-15T08:01:01Z",
    ] {
        assert!(status.text.contains(wanted), "{wanted}\n{}", status.text);
    }
    let boot = &status.json["history"]["boots"][0];
    assert_eq!(boot["reset_count"], 7);
    assert_eq!(boot["receipts"][0]["exit_code"], 0);
    assert_eq!(boot["receipts"][0]["unpacked"], true);
    assert_eq!(boot["receipts"][0]["capped"], true);
    assert_eq!(status.json["deposit"]["is_last_of_this_tenant"], true);
    story.view.receipts = vec![story.receipt(3, 0)];
    assert!(
        story
            .status()
            .text
            .contains("script exit code 3 (1200 ms); NOT capped")
    );
}

#[test]
fn what_does_not_verify_is_shown_and_counts() {
    type Change = fn(&mut Story);
    let rows: [(&str, Change, &str); 5] = [
        (
            "a receipt by another TPM",
            |story| {
                let receipt = story.receipt(0, 3);
                story.node = SoftwareNode::new();
                story.view.receipts = vec![receipt, story.receipt(0, 3)];
            },
            "doesn't verify: its quote isn't signed by the node's attestation key",
        ),
        (
            "a manifest that was changed",
            |story| {
                let deposit = story.view.deposit.as_mut().unwrap();
                deposit.manifest = BASE64.encode(b"{}");
            },
            "a manifest that nobody signed for this node",
        ),
        (
            "another node's manifest",
            |story| story.uuid = Uuid::parse("node-2").unwrap(),
            "a manifest that nobody signed for this node",
        ),
        (
            "an older deposit",
            |story| story.record.manifest_sha256 = "00".repeat(32),
            "isn't the last deposit that this tenant made",
        ),
        (
            "another signer",
            |story| story.record.signer_sha256 = "00".repeat(32),
            "isn't the last deposit that this tenant made",
        ),
    ];
    for (name, change, wanted) in rows {
        let mut story = story();
        change(&mut story);
        let status = story.status();
        assert_eq!(status.exit, Exit::Untrusted, "{name}");
        assert!(status.text.contains(wanted), "{name}: {}", status.text);
    }
}

#[test]
fn a_cleared_tpm_comes_with_the_command_that_accepts_it() {
    let mut story = story();
    story.view.cleared_tpm = true;
    let status = story.status();
    assert!(
        status
            .text
            .contains("`keyhalf-tenant -c confirm -u node-1`")
    );
    assert_eq!(status.json["cleared_tpm"], true);
    assert_eq!(status.exit, Exit::Done);
}

#[test]
fn the_registrars_key_is_named_as_such() {
    let mut story = story();
    story.view.receipts = vec![story.receipt(0, 3)];
    let registered = story.node.record();
    let of = |registered| PayloadStatus::of(&story.uuid, &story.view, None, registered);
    let status = of(Some(&registered));
    assert_eq!(status.exit, Exit::Done);
    assert!(status.text.contains("checked against the registrar's AK"));
    let nobody = of(None);
    assert_eq!(nobody.exit, Exit::Untrusted);
    let unrestricted = SoftwareNode::with_unrestricted_ak().record();
    assert_eq!(of(Some(&unrestricted)).exit, Exit::Untrusted);
}
