//! Manifests and receipts: what is read is written as something that reads as the same.

use agent_core::wire::manifest::{MAX_MANIFEST_BYTES, Manifest};
use agent_core::wire::receipt::{MAX_REASON_BYTES, MAX_RECEIPT_BYTES, Receipt};

/// The bytes are a manifest, or a receipt, or a reason for one.
pub fn check(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert!(data.len() <= MAX_MANIFEST_BYTES);
        assert!(!manifest.cap.values.is_empty() && ![16, 23].contains(&manifest.cap.pcr));
        let mut text = String::new();
        manifest.write(&mut text).unwrap();
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    }
    if let Ok(receipt) = Receipt::parse(data) {
        assert!(data.len() <= MAX_RECEIPT_BYTES);
        let mut text = String::new();
        receipt.write(&mut text).unwrap();
        assert_eq!(Receipt::parse(text.as_bytes()), Ok(receipt));
    }
    let reason = Receipt::reason(String::from_utf8_lossy(data));
    assert!(reason.len() <= MAX_REASON_BYTES);
    assert!(
        reason
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
    );
}
