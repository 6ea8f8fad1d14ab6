//! Reading: elements one after the other, borrowed from what they are read of.

/// An element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    /// Its tag.
    pub(crate) tag: u8,
    /// What is in it.
    pub(crate) contents: &'a [u8],
    /// All of it.
    pub(crate) whole: &'a [u8],
}

/// What is still to be read; `None` stands for bytes that aren't DER, or not what is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The one element that these bytes are.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Option<&'a [u8]> {
        let mut reader = Self(bytes);
        let contents = reader.contents(tag)?;
        reader.0.is_empty().then_some(contents)
    }

    /// The tag of the next element.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever it is.
    pub(crate) fn element(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // Four bytes are more than anything here has.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                let length = digits
                    .iter()
                    .try_fold(0_usize, |length, digit| {
                        length.checked_mul(256)?.checked_add(usize::from(*digit))
                    })
                    .filter(|length| *length > 0x7F && digits.first() != Some(&0))?;
                (length, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let whole = all.get(..all.len().checked_sub(rest.len())?)?;
        Some(Element {
            tag,
            contents,
            whole,
        })
    }

    /// What is in the next element, which has this tag.
    pub(crate) fn contents(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element()
            .filter(|element| element.tag == tag)
            .map(|element| element.contents)
    }

    /// What is in the next element if it has this tag; any other stays.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        (self.tag() == Some(tag)).then(|| self.contents(tag))?
    }
}

#[cfg(test)]
mod tests {
    use super::super::{INTEGER, SEQUENCE};
    use super::*;

    #[test]
    fn elements() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        let rows: [(&str, &[u8], Option<usize>); 10] = [
            ("empty", &[0x30, 0], Some(0)),
            ("short", &[0x02, 1, 5], Some(1)),
            ("long", &long, Some(0x80)),
            ("nothing", &[], None),
            ("no length", &[0x30], None),
            ("cut", &[0x30, 2, 0], None),
            ("indefinite", &[0x30, 0x80, 0, 0], None),
            ("longer than need be", &[0x04, 0x81, 1, 7], None),
            ("with a zero", &[0x04, 0x82, 0, 1, 7], None),
            ("five bytes", &[0x04, 0x85, 0, 0, 0, 0, 1, 7], None),
        ];
        for (name, bytes, wanted) in rows {
            let found = Reader(bytes).element();
            assert_eq!(found.map(|one| one.contents.len()), wanted, "{name}");
            assert!(found.is_none_or(|one| one.whole == bytes), "{name}");
        }
        assert_eq!(Reader::only(&[2, 1, 5, 0], INTEGER), None, "what follows");
        let mut reader = Reader(&[2, 1, 5]);
        assert_eq!(reader.optional(SEQUENCE), None);
        assert_eq!(reader.optional(INTEGER), Some(&[5][..]));
    }
}
