//! Steps of tenants, verifiers and the shell, in any order: the agent does what its model does.

use crate::model::{SideBySide, Step};

/// Two bytes are a step.
pub fn check(data: &[u8]) {
    let mut both = SideBySide::new();
    let (pairs, _) = data.as_chunks::<2>();
    for (number, pair) in pairs.iter().take(MAX_STEPS).enumerate() {
        both.take(Step::of(*pair), &format!("step {number}"));
    }
}

/// Longer sequences cost more than they find.
const MAX_STEPS: usize = 32;
