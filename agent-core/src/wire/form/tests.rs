use sha2::{Digest, Sha256};

use super::*;

const TAG: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

/// Replaces `TAG` in the text.
fn body(text: &str) -> heapless::String<512> {
    let mut whole = heapless::String::new();
    for (n, piece) in text.split("TAG").enumerate() {
        if n > 0 {
            whole.push_str(TAG).unwrap();
        }
        whole.push_str(piece).unwrap();
    }
    whole
}

fn read(text: &str, piece: usize) -> Result<UKey<[u8; 16]>, FormError> {
    let mut form = UKeyForm::new([0; 16]);
    for chunk in body(text).as_bytes().chunks(piece) {
        form.feed(chunk)?;
    }
    form.finish()
}

#[test]
fn ukey_in_any_order_and_pieces() {
    let cases: [(&str, Option<&[u8]>); 7] = [
        (r#"{"encrypted_key":"AQI=","auth_tag":"TAG"}"#, None),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":null}"#,
            None,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":"aGVsbG8gd29ybGQ="}"#,
            Some(b"hello world"),
        ),
        (
            r#"{"payload":"aGVsbG8gd29ybGQ=","auth_tag":"TAG","encrypted_key":"AQI="}"#,
            Some(b"hello world"),
        ),
        (
            r#"{"auth_tag":"TAG","payload":"\/\u002f8A","x":true,"encrypted_key":"AQI="}"#,
            Some(&[0xFF, 0xFF, 0]),
        ),
        (
            r#"{"auth_tag":"TAG","payload":"MDEyMzQ1Njc4OWFiY2RlZg==","encrypted_key":"AQI="}"#,
            Some(b"0123456789abcdef"),
        ),
        (
            r#"{"auth_tag":"TAG","payload":"","encrypted_key":"AQI="}"#,
            Some(b""),
        ),
    ];
    for (text, want) in cases {
        for piece in [1, 2, 3, 5, 512] {
            let ukey = read(text, piece).unwrap();
            assert_eq!(ukey.encrypted_key, [1, 2]);
            assert_eq!(ukey.auth_tag[47], 0x2F);
            let sealed = ukey.sealed.as_ref();
            assert_eq!(
                sealed.map(|s| &s.vault[..s.length]),
                want,
                "{text} by {piece}"
            );
            if let (Some(sealed), Some(want)) = (sealed, want) {
                assert_eq!(sealed.sha256, <[u8; 32]>::from(Sha256::digest(want)));
            }
        }
    }
}

#[test]
fn ukey_that_is_wrong_is_named() {
    let missing = |name| FormError::Missing { name };
    let payload = FormError::Base64 { name: "payload" };
    let cases = [
        ("", FormError::Json),
        ("[]", FormError::Json),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG""#,
            FormError::Json,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":{}}"#,
            FormError::Json,
        ),
        (r#"{"auth_tag":"TAG"}"#, missing("encrypted_key")),
        (
            r#"{"encrypted_key":null,"auth_tag":"TAG"}"#,
            missing("encrypted_key"),
        ),
        (r#"{"encrypted_key":"AQI="}"#, missing("auth_tag")),
        (
            r#"{"encrypted_key":7,"auth_tag":"TAG"}"#,
            FormError::NotText {
                name: "encrypted_key",
            },
        ),
        (
            r#"{"encrypted_key":"AQI","auth_tag":"TAG"}"#,
            FormError::Base64 {
                name: "encrypted_key",
            },
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"00"}"#,
            FormError::AuthTag,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG0"}"#,
            FormError::TooLong { name: "auth_tag" },
        ),
        (
            r#"{"auth_tag":"TAG","auth_tag":"TAG"}"#,
            FormError::Doubled { name: "auth_tag" },
        ),
        (
            r#"{"payload":"AA==","payload":"AA=="}"#,
            FormError::Doubled { name: "payload" },
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":"AAA"}"#,
            payload,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":"A*AA"}"#,
            payload,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":"AA==AAAA"}"#,
            payload,
        ),
        (
            r#"{"encrypted_key":"AQI=","auth_tag":"TAG","payload":"AAAA AAAA"}"#,
            payload,
        ),
        (
            r#"{"payload":"MDEyMzQ1Njc4OWFiY2RlZmc="}"#,
            FormError::PayloadTooLarge,
        ),
    ];
    for (text, want) in cases {
        for piece in [1, 7, 512] {
            assert_eq!(read(text, piece).err(), Some(want), "{text} by {piece}");
        }
    }
}

#[test]
fn vkey() {
    let missing = FormError::Missing {
        name: "encrypted_key",
    };
    let cases = [
        (r#"{"encrypted_key":"AQI="}"#, Ok(&[1u8, 2][..])),
        ("{}", Err(missing)),
        ("null", Err(FormError::Json)),
    ];
    for (text, want) in cases {
        let mut form = VKeyForm::new();
        let got = form.feed(text.as_bytes()).and_then(|()| form.finish());
        assert_eq!(
            got.as_ref().map(|vkey| vkey.encrypted_key.as_slice()),
            want.as_ref().copied()
        );
    }
}

/// Found by fuzzing: too much and not base64 at once was the one or the other, as the network cut it.
#[test]
fn first_fault_counts_however_it_is_cut() {
    let full = "MDEyMzQ1Njc4OWFiY2Rl";
    let too_large = Err(FormError::PayloadTooLarge);
    let no_base64 = Err(FormError::Base64 { name: PAYLOAD });
    let rows = [
        ("AAAA", too_large),
        ("AAAA!!!!", too_large),
        ("!!!!AAAA", no_base64),
        ("AA==!!!!", no_base64),
        ("AAA=AAAA", too_large),
    ];
    for (more, want) in rows {
        let text = heapless::format!(512; r#"{{"payload":"{full}{more}","#).unwrap();
        for piece in 1..=text.len() {
            assert_eq!(
                read(&text, piece).map(|_| ()),
                want,
                "{more} in pieces of {piece}"
            );
        }
    }
}
