//! Writing: what the agent's own certificate takes beside what is read.

/// UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0C;
/// UTCTime.
pub(crate) const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
/// SET.
pub(crate) const SET: u8 = 0x31;

/// `[number]` of a structure's own that replaces the tag of a text or of bytes.
pub(crate) const fn implicit(number: u8) -> u8 {
    0x80 | number
}

/// An element with these bytes in it, one after the other.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut element = vec![tag];
    match u8::try_from(contents.len()) {
        Ok(len @ ..=0x7F) => element.push(len),
        _ => {
            let len = contents.len().to_be_bytes();
            let digits = len.into_iter().skip_while(|digit| *digit == 0);
            let count = digits.clone().fold(0, |count, _| count + 1);
            element.push(0x80 | count);
            element.extend(digits);
        }
    }
    element.extend(contents);
    element
}

#[cfg(test)]
mod tests {
    use super::super::OCTET_STRING;
    use super::*;

    #[test]
    fn lengths() {
        let rows: [(usize, &[u8]); 6] = [
            (0, &[0]),
            (0x7F, &[0x7F]),
            (0x80, &[0x81, 0x80]),
            (0xFF, &[0x81, 0xFF]),
            (0x100, &[0x82, 1, 0]),
            (0x1_0000, &[0x83, 1, 0, 0]),
        ];
        for (len, wanted) in rows {
            let contents = vec![7; len];
            let head = [&[OCTET_STRING], wanted].concat();
            let (one, two) = contents.split_at(len / 2);
            assert_eq!(
                element(OCTET_STRING, &[one, two]),
                [head, contents.clone()].concat(),
                "{len}"
            );
        }
    }
}
