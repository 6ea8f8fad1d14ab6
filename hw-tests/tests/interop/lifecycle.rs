//! All that a tenant does with a node, from `add` to `regdelete`: Keylime's tenant and ours, before Keylime's servers and ours.

use std::fs;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::steps::{self, RSASSA, deliver};

/// A name, then who makes the servers and the tenant, then the one version of the API that the agent speaks.
macro_rules! lives {
    ($($name:ident: $servers:ident, $tenant:ident, $version:literal;)*) => {$(
        #[test]
        fn $name() {
            lifecycle(Maker::$servers, Maker::$tenant, $version);
        }
    )*};
}

lives! {
    keylimes_tenant_before_keylimes_servers_2_6: Keylime, Keylime, "2.6";
    keylimes_tenant_before_keylimes_servers_2_4: Keylime, Keylime, "2.4";
    keylimes_tenant_before_keylimes_servers_2_1: Keylime, Keylime, "2.1";
    our_tenant_before_keylimes_servers_2_6: Keylime, Keyhalf, "2.6";
    our_tenant_before_keylimes_servers_2_4: Keylime, Keyhalf, "2.4";
    our_tenant_before_keylimes_servers_2_1: Keylime, Keyhalf, "2.1";
    keylimes_tenant_before_our_servers_2_6: Keyhalf, Keylime, "2.6";
    keylimes_tenant_before_our_servers_2_4: Keyhalf, Keylime, "2.4";
    keylimes_tenant_before_our_servers_2_1: Keyhalf, Keylime, "2.1";
}

fn lifecycle(servers: Maker, tenant: Maker, version: &str) {
    story(|site| {
        let operator = Operator::start(site, servers, servers)?;
        let options = [&RSASSA[..], &["--api-versions", version]].concat();
        let node = Node::boot_with(&operator, Swtpm::fresh(site)?, &options)?;
        let life = Life {
            uuid: node.uuid()?,
            tenant: operator.tenant(tenant)?,
            operator: &operator,
            node: &node,
        };
        life.is_added()?;
        life.is_looked_at()?;
        life.is_updated()?;
        life.is_deleted_and_added_again()?;
        life.is_reactivated()?;
        life.gets_a_plain_file()?;
        life.gets_what_keylime_sealed()?;
        life.is_forgotten()
    });
}

struct Life<'a> {
    operator: &'a Operator<'a>,
    tenant: Tenant<'a>,
    node: &'a Node<'a>,
    uuid: String,
}

impl Life<'_> {
    fn is_added(&self) -> Result {
        self.delivers("add", "the first payload")
    }

    fn is_looked_at(&self) -> Result {
        let about_one = ["status", "cvstatus", "regstatus"];
        let about_all = ["cvlist", "reglist", "bulkinfo"];
        for command in about_one.iter().chain(&about_all) {
            self.does(&["-c", command, "-u", &self.uuid])?
                .says(&[&self.uuid])
                .map_err(|error| format!("{command}: {error}"))?;
        }
        Ok(())
    }

    fn is_updated(&self) -> Result {
        self.delivers("update", "another payload")
    }

    fn is_deleted_and_added_again(&self) -> Result {
        self.delete()?;
        self.delivers("add", "a third payload")
    }

    fn is_reactivated(&self) -> Result {
        self.node.tpm().extend(23, 1)?;
        steps::wait_for_state(self.operator, &self.uuid, &[7, 9])?;
        // The cause is mended: 23 can be reset.
        self.node.tpm().tool("tpm2_pcrreset", &["23"])?;
        self.does(&["-c", "reactivate", "-u", &self.uuid])?;
        steps::wait_for_pass(self.operator, &self.uuid)
    }

    fn gets_a_plain_file(&self) -> Result {
        self.delete()?;
        fs::write(self.tenant.work().join("secret"), "one file")?;
        deliver(&self.tenant, self.node, "add", &["-f", "secret"])?;
        self.wait_for_file("decrypted_payload", "one file")
    }

    fn gets_what_keylime_sealed(&self) -> Result {
        self.delete()?;
        let archive = payload::archive(&[("file", b"sealed by Keylime")])?;
        fs::write(self.tenant.work().join("archive.zip"), archive)?;
        self.operator
            .keylimes_tool("user_data_encrypt", &["archive.zip"])?;
        let sealed = ["-k", "content_keys.txt", "-p", "content_payload.txt"];
        deliver(&self.tenant, self.node, "add", &sealed)?;
        self.wait_for_file("file", "sealed by Keylime")
    }

    fn is_forgotten(&self) -> Result {
        self.delete()?;
        self.does(&["-c", "regdelete", "-u", &self.uuid])?;
        let told = self.tenant.run(&["-c", "reglist"])?;
        assert!(!told.text.contains(&self.uuid), "{}", told.text);
        Ok(())
    }

    fn delivers(&self, command: &str, content: &str) -> Result {
        let folder = self.tenant.work().join("payload");
        payload::write(&folder, "file", content.as_bytes(), 0o600)?;
        let payload = ["--cert", "default", "--include", "payload", "--verify"];
        deliver(&self.tenant, self.node, command, &payload)?;
        self.wait_for_file("file", content)
    }

    fn delete(&self) -> Result {
        self.does(&["-c", "delete", "-u", &self.uuid])?;
        until(LIMIT, "deletion", || {
            steps::shown(self.operator, &self.uuid)
                .is_err()
                .then_some(())
        })
    }

    fn wait_for_file(&self, name: &str, content: &str) -> Result {
        until(LIMIT, &format!("{name} with {content:?}"), || {
            let found = fs::read_to_string(self.node.unzipped(name)).ok()?;
            (found == content).then_some(())
        })
    }

    fn does(&self, arguments: &[&str]) -> Result<hw_tests::tenant::Told> {
        self.tenant.does(arguments)
    }
}
