//! Random sequences of steps, on the agent and on its model.

use crate::dice::Dice;
use crate::model::{SideBySide, Step};

#[test]
fn the_agent_does_what_the_model_does() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut both = SideBySide::new();
        for step in 0..40 {
            let pair = [dice.roll(256) as u8, dice.roll(256) as u8];
            both.take(Step::of(pair), &format!("seed {seed}, step {step}"));
        }
    }
}
