//! Bodies of a known length.

/// Counts a body's bytes as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    left: u64,
}

impl Body {
    /// A body of so many bytes.
    #[must_use]
    pub const fn new(length: u64) -> Self {
        Self { left: length }
    }

    /// Bytes that haven't come yet.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// How many of these next bytes of the connection belong to the body; they count as come.
    pub fn take(&mut self, arrived: usize) -> usize {
        let mine = usize::try_from(self.left).map_or(arrived, |left| left.min(arrived));
        let taken = u64::try_from(mine).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(taken);
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_left() {
        let mut body = Body::new(10);
        let steps = [(4, 4, 6), (0, 0, 6), (7, 6, 0), (3, 0, 0)];
        for (arrived, mine, left) in steps {
            assert_eq!((body.take(arrived), body.left()), (mine, left));
        }
    }
}
