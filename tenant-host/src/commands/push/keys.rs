//! The keys of a registrar's record, each checked, and the endorsement key pinned.

use time::OffsetDateTime;
use verifier_host::evidence::public::{AkPublic, EkPublic};

use super::Job;
use crate::cli::Settings;
use crate::client::RegistrarRecord;
use crate::error::Failure;
use crate::trust::known::{self, Known};
use crate::trust::pin::{PinError, Pinned, pin};
use crate::trust::{self, Demands, TrustError, Vouched};

/// A node with keys that hold.
pub(super) struct Found {
    pub(super) record: RegistrarRecord,
    pub(super) ek: EkPublic,
    pub(super) ak: AkPublic,
    pub(super) ek_hash: String,
    /// Why the EK counts as the node's; `None` if nothing is sealed to it.
    pub(super) pinned: Option<Pinned>,
    pub(super) known: Known,
}

impl Found {
    /// Checks the keys of a record. Without a payload nothing is sealed to the EK, so a vendor's certificate is enough.
    pub(super) fn check(
        job: &Job,
        settings: &Settings,
        record: RegistrarRecord,
    ) -> Result<Self, Failure> {
        let bad_key = |source| Failure::Key {
            uuid: job.uuid.to_string(),
            source,
        };
        let ak = AkPublic::from_base64(&record.aik_tpm).map_err(bad_key)?;
        let ek = EkPublic::from_base64(&record.ek_tpm).map_err(bad_key)?;
        let ek_hash = trust::ek_hash(&ek)?;
        let known = known::check(&settings.known_eks, &job.uuid, &ek_hash)?;
        let vouched = || vouched(job, settings, &record, &ek);
        let pinned = match pin(job.uuid.as_str(), &ek, &job.told, known, vouched) {
            Ok(pinned) => Some(pinned),
            Err(PinError::Unknown { .. }) if !job.has_payload() => {
                vouched()?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            record,
            ek,
            ak,
            ek_hash,
            pinned,
            known,
        })
    }
}

fn vouched(
    job: &Job,
    settings: &Settings,
    record: &RegistrarRecord,
    ek: &EkPublic,
) -> Result<Vouched, TrustError> {
    let certificate = record
        .ek_certificate()
        .map_err(|_| TrustError::NotACertificate)?;
    let demands = Demands {
        certificate: settings.require_ek_cert,
        hash: job.told.hash.clone(),
    };
    let now = trust::unix_time(OffsetDateTime::now_utc());
    let store = &settings.tpm_cert_store;
    trust::judge(ek, certificate.as_deref(), store, &demands, now)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use agent_core::wire::text::Uuid;
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, PayloadSource};
    use crate::deposit::course::Mode;
    use crate::deposit::software::SoftwareNode;
    use crate::deposit::terms::Wishes;
    use crate::trust::known::KnownError;
    use crate::trust::pin::Told;

    #[test]
    fn nothing_is_sealed_to_keys_that_do_not_hold() {
        let root = tempfile::tempdir().unwrap();
        let known_eks = root.path().join("known");
        let words = ["t", "--known-eks", known_eks.to_str().unwrap()];
        let settings = Settings::read(&Arguments::try_parse_from(words).unwrap()).unwrap();
        let (node, other) = (SoftwareNode::new(), SoftwareNode::new());
        let unrestricted = SoftwareNode::with_unrestricted_ak();
        let hash = |node: &SoftwareNode| trust::ek_hash(&node.ek()).unwrap();
        let check = |record, told: Option<String>, payload| {
            let job = Job {
                uuid: Uuid::parse("node").unwrap(),
                mode: Mode::Add,
                source: match payload {
                    true => PayloadSource::File("x".into()),
                    false => PayloadSource::None,
                },
                ca: "ca".into(),
                wishes: Wishes::default(),
                told: Told {
                    hash: told,
                    ..Told::default()
                },
                demands: None,
                allow_weak_policy: false,
                wait: None,
            };
            Found::check(&job, &settings, record)
        };
        let told = |node| Some(hash(node));
        let found = check(node.record(), told(&node), true).unwrap();
        assert_eq!(
            (found.pinned, found.known),
            (Some(Pinned::Hash), Known::First)
        );
        let refused = check(unrestricted.record(), told(&unrestricted), true).err();
        assert!(refused.unwrap().to_string().contains("restricted"));
        let swapped = RegistrarRecord {
            ek_tpm: other.record().ek_tpm,
            ..node.record()
        };
        let refused = check(swapped, told(&node), true).err();
        assert!(matches!(
            refused,
            Some(Failure::Pin(PinError::AnotherHash { .. }))
        ));
        let refused = check(node.record(), None, true).err();
        assert!(matches!(
            refused,
            Some(Failure::Pin(PinError::Unknown { .. }))
        ));
        // To attest alone takes somebody who vouches, as in the pull model.
        let refused = check(node.record(), None, false).err();
        assert!(matches!(
            refused,
            Some(Failure::Trust(TrustError::NoCertificate { .. }))
        ));
        known::check_or_record(&known_eks, &Uuid::parse("node").unwrap(), &hash(&node)).unwrap();
        let found = check(node.record(), None, true).unwrap();
        assert_eq!(found.pinned, Some(Pinned::Inventory));
        let refused = check(other.record(), told(&other), true).err();
        assert!(matches!(
            refused,
            Some(Failure::Known(KnownError::Changed { .. }))
        ));
    }
}
