#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::cli::Arguments;
use crate::deposit::software::SoftwareNode;
use crate::deposit::terms::When;
use crate::deposit::view::DepositView;

struct Place {
    root: tempfile::TempDir,
    settings: Arc<Settings>,
    node: SoftwareNode,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let arguments = Arguments::try_parse_from(["t"]).unwrap();
    std::fs::write(root.path().join("file"), "x").unwrap();
    Place {
        settings: Arc::new(Settings::read(&arguments).unwrap()),
        node: SoftwareNode::new(),
        root,
    }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            uuid: Uuid::parse("node").unwrap(),
            source: PayloadSource::File(self.path("file")),
            ca: self.path("ca"),
            wishes: Wishes::default(),
            ek: self.node.ek(),
            ak: self.node.ak(),
            policies: Some(("{}".to_owned(), [7; 32])),
            last: None,
            record: None,
            beginning: None,
            group: None,
        }
    }

    fn rotation(&self, last: &Load) -> Recipe {
        let body = last.made.to_body(false).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let shown = DepositView {
            manifest: text("manifest"),
            signature: text("signature"),
            signer: text("signer"),
            ..DepositView::default()
        };
        Recipe {
            policies: None,
            last: Some(shown.signed_manifest().unwrap()),
            record: Some(self.record(last)),
            ..self.recipe()
        }
    }

    fn record(&self, load: &Load) -> Record {
        let hash = crate::trust::ek_hash(&self.node.ek()).unwrap();
        record_of(load, &self.node.ak(), &hash)
    }

    fn first(&self, floor: Option<u64>) -> Load {
        let wishes = Wishes {
            floor,
            deliver: Some(When::Once),
            ..Wishes::default()
        };
        let recipe = Recipe {
            wishes,
            ..self.recipe()
        };
        prepare(recipe, &self.settings).unwrap()
    }
}

#[test]
fn a_rotation_has_the_last_terms_and_the_next_floor() {
    let place = place();
    let first = place.first(Some(5));
    let second = prepare(place.rotation(&first), &place.settings).unwrap();
    let (old, new) = (&first.made.manifest, &second.made.manifest);
    assert_ne!(
        (old.payload_id, old.auth_tag),
        (new.payload_id, new.auth_tag)
    );
    assert_eq!(
        (old.deliver, old.policy_sha256),
        (new.deliver, new.policy_sha256)
    );
    assert_eq!((new.floor, new.policy_sha256), (Some(6), [7; 32]));
    assert!(second.warnings.is_empty(), "{:?}", second.warnings);
    let none = place.first(None);
    let again = prepare(place.rotation(&none), &place.settings).unwrap();
    assert_eq!(again.made.manifest.floor, None);
}

#[test]
fn a_verifier_that_shows_an_older_deposit_does_not_lower_the_floor() {
    let place = place();
    let (older, newer) = (place.first(Some(5)), place.first(Some(9)));
    let recipe = Recipe {
        record: Some(place.record(&newer)),
        ..place.rotation(&older)
    };
    let load = prepare(recipe, &place.settings).unwrap();
    assert_eq!(load.made.manifest.floor, Some(10));
    assert!(
        load.warnings
            .iter()
            .any(|warning| warning.contains("the verifier went back"))
    );
}

#[test]
fn an_update_goes_on_with_the_floor_of_the_same_tpm() {
    let place = place();
    let record = place.record(&place.first(Some(5)));
    let other = Record {
        ek_hash: "0".repeat(64),
        ..record.clone()
    };
    let low = Wishes {
        floor: Some(1),
        ..Wishes::default()
    };
    for (name, record, wishes, wanted) in [
        ("same TPM", record.clone(), Wishes::default(), Some(6)),
        ("replaced TPM", other, Wishes::default(), None),
        ("another floor", record, low, Some(1)),
    ] {
        let recipe = Recipe {
            record: Some(record),
            wishes,
            ..place.recipe()
        };
        let load = prepare(recipe, &place.settings).unwrap();
        assert_eq!(load.made.manifest.floor, wanted, "{name}");
    }
}

#[test]
fn a_rotation_believes_its_own_signer_alone() {
    let place = place();
    let first = place.first(None);
    let elsewhere = Recipe {
        ca: place.path("other"),
        ..place.recipe()
    };
    let foreign = prepare(elsewhere, &place.settings).unwrap();
    let stranger = SoftwareNode::new();
    let rows: Vec<(&str, Recipe, RotateError)> = vec![
        (
            "another CA's deposit",
            place.rotation(&foreign),
            RotateError::Foreign,
        ),
        (
            "no such CA",
            Recipe {
                ca: place.path("none"),
                ..place.rotation(&first)
            },
            RotateError::Foreign,
        ),
        (
            "another node's deposit",
            Recipe {
                uuid: Uuid::parse("other").unwrap(),
                ..place.rotation(&first)
            },
            RotateError::AnotherNode,
        ),
        (
            "another EK",
            Recipe {
                ek: stranger.ek(),
                ..place.rotation(&first)
            },
            RotateError::OtherKeys,
        ),
        (
            "another AK",
            Recipe {
                ak: stranger.ak(),
                ..place.rotation(&first)
            },
            RotateError::OtherKeys,
        ),
    ];
    for (name, recipe, wanted) in rows {
        match prepare(recipe, &place.settings).err() {
            Some(Failure::Rotate(error)) => assert_eq!(error, wanted, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(
        !Path::new(&place.path("none")).exists(),
        "a rotation makes no CA"
    );
}
