//! Runtime and measured-boot policies that our tenant gives to Keylime's verifier, which evaluates them.

use std::fs;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::steps::{self, RSASSA};

/// As Keylime's verifier takes it; no file is named, so no node with a log of IMA would satisfy it.
const RUNTIME_POLICY: &str = r#"{"meta": {"version": 1, "generator": 0}, "release": 0, "digests": {"/bin/true": ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}, "excludes": [],
    "keyrings": {}, "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}"#;

/// Keylime's verifier looks into it only when there is a boot log.
const MEASURED_BOOT_POLICY: &str = r#"{"scrtm_and_bios": []}"#;

#[test]
fn named_policies_live_on_keylimes_verifier() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keylime, Maker::Keylime)?;
        let _manufacturer = Swtpm::fresh(site)?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        let files = [
            ("runtimepolicy", RUNTIME_POLICY),
            ("mbpolicy", MEASURED_BOOT_POLICY),
        ];
        for (kind, policy) in files {
            live(&tenant, kind, policy).map_err(|error| format!("{kind}: {error}"))?;
        }
        Ok(())
    });
}

fn live(tenant: &Tenant<'_>, kind: &str, policy: &str) -> Result {
    let option = if kind == "mbpolicy" {
        "--mb-policy"
    } else {
        "--runtime-policy"
    };
    let name = [format!("{option}-name"), "web".to_owned()];
    let name = [name[0].as_str(), &name[1]];
    let file = [option, "policy.json"];
    let does = |verb: &str, more: &[&str]| {
        let command = format!("{verb}{kind}");
        tenant.does(&[&["-c", command.as_str()], more].concat())
    };
    let fails = |verb: &str, more: &[&str]| {
        let command = format!("{verb}{kind}");
        tenant.fails(&[&["-c", command.as_str()], more].concat())
    };
    fs::write(tenant.work().join("policy.json"), policy)?;
    let both = [&name[..], &file].concat();

    fails("show", &name)?;
    does("add", &both)?;
    assert_eq!(fails("add", &both)?.code, 10);
    does("list", &[])?.says(&["web"])?;
    does("show", &name)?;
    does("update", &both)?;
    does("delete", &name)?;
    assert_eq!(fails("delete", &name)?.code, 10);
    let left = does("list", &[])?.text;
    assert!(!left.contains("web"), "{left}");
    Ok(())
}

/// Keylime's verifier takes our tenant's policies for what they are: a node that sends no log doesn't satisfy them.
#[test]
fn our_tenants_policies_bind_keylimes_verifier() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keylime, Maker::Keylime)?;
        let node = Node::boot_with(&operator, Swtpm::fresh(site)?, &RSASSA)?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        fs::write(tenant.work().join("secret"), "never delivered")?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        for (option, policy) in [
            ("--runtime-policy", RUNTIME_POLICY),
            ("--mb-policy", MEASURED_BOOT_POLICY),
        ] {
            fs::write(tenant.work().join("policy.json"), policy)?;
            let whom = ["-t", &ip, "-u", &uuid, "-f", "secret"];
            let told = tenant.fails(&[&whom[..], &[option, "policy.json"]].concat())?;
            assert_eq!(told.code, 6, "{option}: {}", told.text);
            assert!(node.has_nothing(), "{option}");
        }
        Ok(())
    });
}

/// Our verifier can't evaluate them yet: it says so, and nothing is left behind.
#[test]
fn unevaluated_policy_fails() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let node = Node::boot(&operator, Swtpm::fresh(site)?)?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        for maker in [Maker::Keyhalf, Maker::Keylime] {
            let tenant = operator
                .tenant(maker)?
                .with("accept_tpm_signing_algs", "['ecdsa']");
            fs::write(tenant.work().join("policy.json"), RUNTIME_POLICY)?;
            let whom = ["-t", &ip, "-u", &uuid, "--cert", "default"];
            tenant.fails(&[&whom[..], &["--runtime-policy", "policy.json"]].concat())?;
            assert!(
                steps::shown(&operator, &uuid).is_err(),
                "{maker:?}: it was added"
            );
            assert!(node.has_nothing());
        }
        Ok(())
    });
}
