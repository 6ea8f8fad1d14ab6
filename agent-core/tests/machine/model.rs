//! Random sequences of steps, against a model that is too simple to be wrong in the same way.

use crate::bench::{Bench, Delivery};
use crate::dice::Dice;

/// What the rules say: one U and one V wait; equal numbers fit; a new U takes the key away; work refuses a new U.
#[derive(Default)]
struct Model {
    u: Option<(u8, bool)>,
    v: Option<u8>,
    key: Option<u8>,
    stage: &'static str,
    opened: Vec<u8>,
}

impl Model {
    fn ukey(&mut self, n: u8, with_payload: bool) -> u16 {
        if self.stage == "opened" {
            return 500;
        }
        (self.u, self.key, self.stage) = (Some((n, with_payload)), None, "received");
        self.fit();
        200
    }

    fn vkey(&mut self, n: u8) -> u16 {
        self.v = Some(n);
        self.fit();
        200
    }

    fn fit(&mut self) {
        if let (Some((n, with_payload)), Some(v)) = (self.u, self.v)
            && n == v
        {
            (self.u, self.v, self.key) = (None, None, Some(n));
            self.stage = if with_payload { "opened" } else { "finished" };
            if with_payload {
                self.opened.push(n);
            }
        }
    }

    fn work(&mut self) {
        self.opened.clear();
        if self.stage == "opened" {
            self.stage = "finished";
        }
    }
}

#[test]
fn the_agent_does_what_the_model_does() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let bench = Bench::new();
        let mut model = Model {
            stage: "waiting",
            ..Model::default()
        };
        for step in 0..40 {
            let n = u8::try_from(dice.roll(3)).unwrap() + 1;
            let at = format!("seed {seed}, step {step}");
            match dice.roll(6) {
                0 | 1 => {
                    let with_payload = dice.roll(4) > 0;
                    let mut delivery = Delivery::new(n);
                    if !with_payload {
                        delivery.payload = None;
                    }
                    assert_eq!(
                        bench.ukey(&delivery).status,
                        model.ukey(n, with_payload),
                        "{at}"
                    );
                }
                2 | 3 => assert_eq!(bench.vkey(&Delivery::new(n)).status, model.vkey(n), "{at}"),
                4 => {
                    bench.work();
                    model.work();
                }
                _ => assert_eq!(
                    bench.post("/v2.6/keys/ukey", "{}").status / 100,
                    if model.stage == "opened" { 5 } else { 4 },
                    "{at}"
                ),
            }
            assert_eq!(bench.stage(), model.stage, "{at}");
            for n in 1..=3 {
                assert_eq!(
                    bench.verifies(&Delivery::new(n)),
                    model.key == Some(n),
                    "{at}, key {n}"
                );
            }
            let opened: Vec<_> = model
                .opened
                .iter()
                .map(|n| Delivery::new(*n).payload.unwrap())
                .collect();
            assert_eq!(bench.opened(), opened, "{at}");
        }
    }
}
