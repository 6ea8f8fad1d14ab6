//! Each combination of registrar, verifier and tenant, with our agent: the payload arrives, and a node that fails is revoked.

use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;

use crate::steps::{self, RSASSA};

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
        let node = Node::boot_with(&operator, Swtpm::fresh(site)?, &RSASSA)?;
        steps::documented_example(&operator.tenant(tenant)?, &node)
    });
}
