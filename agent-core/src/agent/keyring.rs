//! The halves that wait, and the key that they made.

use crate::payload::halves::{AUTH_TAG_BYTES, Half, Key};
use crate::wire::text::{Nonce, Uuid};

/// One waiting half of each kind, and the key of the newest U that found its V.
///
/// Invariant: while a U waits there is no key, so a key check never answers for an earlier payload.
#[derive(Default)]
pub(super) struct Keyring {
    u: Option<Offer>,
    v: Option<Half>,
    key: Option<Key>,
}

/// U, and how to know its V.
struct Offer {
    half: Half,
    auth_tag: [u8; AUTH_TAG_BYTES],
}

/// What a half that came has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The other half isn't there.
    Alone,
    /// The other half belongs to another key; both are kept.
    Apart,
    /// They make the key.
    Together,
}

impl Keyring {
    /// Takes a U; what waited in its place is gone, and so is the key of an earlier one. The flag says whether a U waited.
    pub(super) fn take_u(
        &mut self,
        half: Half,
        auth_tag: [u8; AUTH_TAG_BYTES],
        uuid: &Uuid,
    ) -> (Fit, bool) {
        self.key = None;
        let replaced = self.u.replace(Offer { half, auth_tag }).is_some();
        (self.fit(uuid), replaced)
    }

    /// Takes a V; what waited in its place is gone. The flag says whether a V waited.
    pub(super) fn take_v(&mut self, half: Half, uuid: &Uuid) -> (Fit, bool) {
        let replaced = self.v.replace(half).is_some();
        (self.fit(uuid), replaced)
    }

    /// The key, once it's there.
    pub(super) const fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The answer to a key check; `None` until the key is there.
    pub(super) fn answer(&self, challenge: &Nonce) -> Option<[u8; AUTH_TAG_BYTES]> {
        let key = self.key.as_ref()?;
        Some(key.auth_tag(challenge.as_str().as_bytes()))
    }

    /// Tries the waiting halves; those that fit become the key and wait no longer.
    fn fit(&mut self, uuid: &Uuid) -> Fit {
        let (Some(u), Some(v)) = (&self.u, &self.v) else {
            return Fit::Alone;
        };
        // Halves of two lengths are halves of two keys.
        let Ok(key) = u.half.combine(v) else {
            return Fit::Apart;
        };
        if !key.matches(uuid.as_str().as_bytes(), &u.auth_tag) {
            return Fit::Apart;
        }
        (self.u, self.v, self.key) = (None, None, Some(key));
        Fit::Together
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        /// A U of key n.
        U(u8),
        /// A V of key n.
        V(u8),
    }
    use Step::{U, V};

    fn half(byte: u8) -> Half {
        Half::from_slice(&[byte; 32]).unwrap()
    }

    /// Key n is n ^ (n + 100) in every byte.
    fn key(n: u8) -> Key {
        half(n).combine(&half(n + 100)).unwrap()
    }

    #[test]
    fn steps() {
        type Case<'a> = (&'a str, &'a [(Step, Fit)], Option<u8>);
        let cases: [Case<'_>; 9] = [
            (
                "u then v",
                &[(U(1), Fit::Alone), (V(1), Fit::Together)],
                Some(1),
            ),
            (
                "v then u",
                &[(V(1), Fit::Alone), (U(1), Fit::Together)],
                Some(1),
            ),
            ("v alone", &[(V(1), Fit::Alone)], None),
            (
                "u twice",
                &[
                    (U(1), Fit::Alone),
                    (U(1), Fit::Alone),
                    (V(1), Fit::Together),
                ],
                Some(1),
            ),
            (
                "u of one, v of another",
                &[(U(1), Fit::Alone), (V(2), Fit::Apart)],
                None,
            ),
            (
                "the newest u counts",
                &[
                    (U(1), Fit::Alone),
                    (U(2), Fit::Alone),
                    (V(1), Fit::Apart),
                    (V(2), Fit::Together),
                ],
                Some(2),
            ),
            (
                "v again",
                &[
                    (U(1), Fit::Alone),
                    (V(1), Fit::Together),
                    (V(1), Fit::Alone),
                ],
                Some(1),
            ),
            (
                "a new u takes the key away",
                &[
                    (U(1), Fit::Alone),
                    (V(1), Fit::Together),
                    (U(2), Fit::Alone),
                ],
                None,
            ),
            (
                "and an old v doesn't help it",
                &[
                    (U(1), Fit::Alone),
                    (V(1), Fit::Together),
                    (V(1), Fit::Alone),
                    (U(2), Fit::Apart),
                    (V(2), Fit::Together),
                ],
                Some(2),
            ),
        ];
        let uuid = Uuid::parse("node").unwrap();
        for (name, steps, want) in cases {
            let mut keyring = Keyring::default();
            for (n, (step, fit)) in steps.iter().enumerate() {
                let (got, _) = match step {
                    U(n) => keyring.take_u(half(*n), key(*n).auth_tag(b"node"), &uuid),
                    V(n) => keyring.take_v(half(*n + 100), &uuid),
                };
                assert_eq!(got, *fit, "{name}, step {n}");
            }
            let challenge = Nonce::parse("abc").unwrap();
            let want = want.map(|n| key(n).auth_tag(b"abc"));
            assert_eq!(keyring.answer(&challenge), want, "{name}");
        }
    }

    #[test]
    fn halves_of_two_lengths_stay_apart() {
        let uuid = Uuid::parse("node").unwrap();
        let mut keyring = Keyring::default();
        let short = Half::from_slice(&[7; 16]).unwrap();
        assert_eq!(keyring.take_v(short, &uuid), (Fit::Alone, false));
        let tag = key(1).auth_tag(b"node");
        assert_eq!(keyring.take_u(half(1), tag, &uuid), (Fit::Apart, false));
    }
}
