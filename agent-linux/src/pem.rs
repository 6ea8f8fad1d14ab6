//! PEM as OpenSSL writes it: lines of 64 letters, a newline at the end.
//!
//! Source: RFC 7468 section 2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text of this kind around some DER.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(LINE_BYTES) {
        // Three bytes are four letters: there is always room.
        let mut letters = [0; 2 * LINE_BYTES];
        let length = STANDARD.encode_slice(line, &mut letters).unwrap_or(0);
        text.extend(letters.iter().take(length).copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// What 64 letters hold.
const LINE_BYTES: usize = 48;
