//! Runtime and measured-boot policies that our tenant gives to Keylime's verifier, which evaluates them.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use hw_tests::Result;
use hw_tests::day::untouched_23;
use hw_tests::keylime;
use hw_tests::machine::Machine;
use hw_tests::node::Node;
use hw_tests::operator::{Maker, Operator};
use hw_tests::servers::Servers as _;
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

/// A node that sends no log doesn't satisfy our verifier either, whoever's tenant adds it, and nothing is delivered.
#[test]
fn unevaluated_policy_fails() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let node = Node::boot(&operator, Swtpm::fresh(site)?)?;
        let (ip, uuid) = (node.ip(), node.uuid()?);
        let whom = ["-t", &ip, "-u", &uuid, "-f", "secret"];
        let add = [&whom[..], &["--runtime-policy", "policy.json"]].concat();
        let ours = operator.tenant(Maker::Keyhalf)?;
        fs::write(ours.work().join("policy.json"), RUNTIME_POLICY)?;
        fs::write(ours.work().join("secret"), "never delivered")?;
        let told = ours.fails(&add)?;
        assert_eq!(told.code, 6, "{}", told.text);
        told.says(&["the node sent no IMA list"])?;
        assert!(steps::shown(&operator, &uuid).is_err() && node.has_nothing());

        // Keylime's tenant doesn't wait for what becomes of the node.
        let keylimes = operator
            .tenant(Maker::Keylime)?
            .with("accept_tpm_signing_algs", "['ecdsa']");
        keylimes.does(&add)?;
        steps::wait_for_state(&operator, &uuid, &[9])?;
        let event = steps::shown(&operator, &uuid)?["last_event_id"].clone();
        assert_eq!(event, "ima.missing_list");
        assert!(node.has_nothing());
        Ok(())
    });
}

/// What Keylime's verifier does with a signed policy that it is given: signature and schema.
const KEYLIMES_JUDGEMENT: &str = "\
import sys
from keylime.ima import ima
policy, key = (open(name, 'rb').read() for name in sys.argv[1:3])
ima.verify_runtime_policy(policy, key)
ima.runtime_policy_db_contents('web', policy.decode())
";

/// A log of IMA as a kernel writes it, with templates of several kinds.
const IMA_LOG: &str = "\
10 1d8d532d463c9f8c205d0df7787669a85f93e260 ima-ng sha256:0000000000000000000000000000000000000000000000000000000000000001 boot_aggregate
10 1d8d532d463c9f8c205d0df7787669a85f93e261 ima-ng sha256:0000000000000000000000000000000000000000000000000000000000000002 /usr/bin/a
10 1d8d532d463c9f8c205d0df7787669a85f93e262 ima-sig sha256:0000000000000000000000000000000000000000000000000000000000000003 /usr/bin/b 
10 1d8d532d463c9f8c205d0df7787669a85f93e263 ima-buf sha256:0000000000000000000000000000000000000000000000000000000000000004 kexec-cmdline 726f6f74
";

/// One tree and one log, two programs: what each makes of them is the same policy, and the other side takes it.
#[test]
fn our_tools_and_keylimes_make_and_take_the_same_policies() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keylime, Maker::Keylime)?;
        let _manufacturer = Swtpm::fresh(site)?;
        let tenant = operator.tenant(Maker::Keyhalf)?;
        let work = tenant.work();
        let tree = work.join("tree/usr/lib");
        fs::create_dir_all(&tree)?;
        for (name, content) in [("a", "one"), ("with a space", "two"), ("empty", "")] {
            fs::write(tree.join(name), content)?;
        }
        symlink("a", tree.join("link"))?;
        fs::write(work.join("log"), IMA_LOG)?;

        let create = [
            "policy",
            "create",
            "runtime",
            "--tree",
            "tree",
            "--ima-log",
            "log",
            "--ima-buf",
        ];
        tenant.does(&[&create[..], &["-o", "ours.json"]].concat())?;
        let machine = operator.machine();
        keylime_policy(
            machine,
            "create runtime --rootfs tree -m log --ima-buf -o theirs.json",
        )?;
        tenant.does(&["policy", "diff", "ours.json", "theirs.json"])?;
        tenant.does(&["policy", "lint", "theirs.json"])?;
        let based = "create runtime --base-policy ours.json -m /dev/null -o based.json";
        keylime_policy(machine, based)?;
        tenant.does(&["policy", "diff", "ours.json", "based.json"])?;

        for backend in ["ecdsa", "x509"] {
            let sign = format!(
                "policy sign ours.json -b {backend} --keygen {backend}.pem --public-key {backend}.pub -c {backend}.crt -o {backend}.json"
            );
            tenant.does(&sign.split(' ').collect::<Vec<_>>())?;
            let key = format!("{backend}.pub");
            judged(machine, &format!("{backend}.json"), &key)?;
            let add = ["-c", "addruntimepolicy", "--runtime-policy-name", backend];
            let file = format!("{backend}.json");
            let signed = ["--runtime-policy", &file, "--runtime-policy-sig-key", &key];
            tenant.does(&[&add[..], &signed].concat())?;
            // With our key, which Keylime's program reads too.
            let sign = format!(
                "sign runtime -r theirs.json -k {backend}.pem -b {backend} -c their-{backend}.crt -o their-{backend}.json"
            );
            keylime_policy(machine, &sign)?;
            let theirs = format!("their-{backend}.json");
            tenant.does(&["policy", "verify", &theirs, "--key", &key])?;
            tenant.does(&["policy", "diff", &theirs, "ours.json"])?;
        }
        let told = tenant.fails(&["policy", "verify", "ecdsa.json", "--key", "x509.pub"])?;
        assert_eq!(told.code, 3, "{}", told.text);
        // Keylime's program makes the key, in the form that it has.
        keylime_policy(
            machine,
            "sign runtime -r ours.json -p their.pem -o their.json",
        )?;
        let with_theirs = [
            "policy",
            "sign",
            "ours.json",
            "--key",
            "their.pem",
            "--public-key",
            "their.pub",
            "-o",
            "with-theirs.json",
        ];
        tenant.does(&with_theirs)?;
        tenant.does(&["policy", "verify", "their.json", "--key", "their.pub"])?;
        judged(machine, "with-theirs.json", "their.pub")
    });
}

fn keylime_policy(machine: &Machine, words: &str) -> Result {
    let mut command = keylime::program(machine, "keylime_policy");
    succeeds(command.args(words.split(' ')))
}

fn judged(machine: &Machine, policy: &str, key: &str) -> Result {
    let mut command = machine.command(&format!("{}/bin/python3", keylime::HOME));
    succeeds(command.args(["-c", KEYLIMES_JUDGEMENT, policy, key]))
}

fn succeeds(command: &mut Command) -> Result {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A policy of what a node's TPM signs now is one that the node satisfies, until a PCR changes.
#[test]
fn a_policy_of_a_nodes_quote_holds_for_the_node() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let node = Node::boot(&operator, Swtpm::fresh(site)?)?;
        let tenant = operator
            .tenant(Maker::Keyhalf)?
            .with("accept_tpm_signing_algs", "['ecdsa']");
        let (ip, uuid) = (node.ip(), node.uuid()?);
        let create = ["policy", "create", "tpm", "--pcrs", "0-9,23", "-u", &uuid];
        tenant.does(&[&create[..], &["-o", "tpm.json", "--", "-t", &ip]].concat())?;
        tenant
            .does(&["policy", "lint", "tpm.json"])?
            .says(&["0 errors"])?;
        let policy = fs::read_to_string(tenant.work().join("tpm.json"))?;
        let zeros = untouched_23();
        let wanted: serde_json::Value = serde_json::from_str(&zeros)?;
        let made: serde_json::Value = serde_json::from_str(&policy)?;
        assert_eq!(made["23"], wanted["23"], "{policy}");
        let printed = node
            .tpm()
            .tool("tpm2_pcrread", &["sha256:0,1,2,3,4,5,6,7,8,9,23"])?;
        fs::write(tenant.work().join("pcrs"), printed)?;
        let create = [
            "policy",
            "create",
            "tpm",
            "--pcrs",
            "0-9,23",
            "--pcrread",
            "pcrs",
        ];
        tenant.does(&[&create[..], &["-o", "printed.json"]].concat())?;
        tenant.does(&["policy", "diff", "tpm.json", "printed.json"])?;

        fs::write(tenant.work().join("secret"), "delivered")?;
        let deliver = [
            "-t",
            &ip,
            "-u",
            &uuid,
            "-f",
            "secret",
            "--tpm_policy",
            policy.trim(),
        ];
        tenant.does(&deliver)?;
        tenant.does(&["-c", "delete", "-u", &uuid])?;
        node.tpm().extend(23, 1)?;
        assert_eq!(tenant.fails(&deliver)?.code, 6);
        let refused = tenant.fails(&["policy", "create", "tpm", "--pcrs", "10", "-u", &uuid])?;
        assert_eq!(refused.code, 2, "{}", refused.text);
        Ok(())
    });
}
