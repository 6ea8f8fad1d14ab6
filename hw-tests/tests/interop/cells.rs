//! Each combination of registrar, verifier and tenant, with our agent: the payload arrives, and a node that fails is revoked.

use std::fs;

use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;

use Maker::{Keyhalf, Keylime};

/// A name, then who makes registrar, verifier and tenant.
macro_rules! cells {
    ($($name:ident: $registrar:ident, $verifier:ident, $tenant:ident;)*) => {$(
        #[test]
        fn $name() {
            cell($registrar, $verifier, $tenant);
        }
    )*};
}

cells! {
    registrar_keyhalf_verifier_keyhalf_tenant_keyhalf: Keyhalf, Keyhalf, Keyhalf;
    registrar_keyhalf_verifier_keyhalf_tenant_keylime: Keyhalf, Keyhalf, Keylime;
    registrar_keyhalf_verifier_keylime_tenant_keyhalf: Keyhalf, Keylime, Keyhalf;
    registrar_keyhalf_verifier_keylime_tenant_keylime: Keyhalf, Keylime, Keylime;
    registrar_keylime_verifier_keyhalf_tenant_keyhalf: Keylime, Keyhalf, Keyhalf;
    registrar_keylime_verifier_keyhalf_tenant_keylime: Keylime, Keyhalf, Keylime;
    registrar_keylime_verifier_keylime_tenant_keyhalf: Keylime, Keylime, Keyhalf;
    registrar_keylime_verifier_keylime_tenant_keylime: Keylime, Keylime, Keylime;
}

fn cell(registrar: Maker, verifier: Maker, tenant: Maker) {
    story(|site| {
        let operator = Operator::start(site, registrar, verifier)?;
        let tpm = Swtpm::fresh(site)?;
        let node = Node::boot_with(&operator, tpm, &["--tpm-signing-alg", "rsassa"])?;
        let tenant = operator.tenant(tenant)?;
        payload::documented(&tenant.work().join("payload"))?;
        let policy = format!(r#"{{"23": ["{}"]}}"#, "0".repeat(64));
        tenant.does(&[
            "-t",
            &node.ip(),
            "-u",
            &node.uuid()?,
            "--cert",
            "default",
            "--include",
            "payload",
            "--tpm_policy",
            &policy,
            "--verify",
        ])?;
        let secret = node.machine().root().join(".ssh/payload_id_rsa");
        let arrived = until(LIMIT, "autorun.sh's copy", || {
            fs::read_to_string(&secret).ok()
        })?;
        assert_eq!(arrived, SECRET);
        Ok(())
    });
}
