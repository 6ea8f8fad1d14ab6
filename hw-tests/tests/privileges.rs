//! An agent that gives root up once it has what only root gets.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use hw_tests::Result;
use hw_tests::node::{Node, RUN_AS};
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::{Tenant, Told};

const NOBODY: u32 = 65534;

/// What a script can tell of itself and try, written beside it: its directory belongs to its user.
const WHO_AM_I: &str = "#!/bin/sh
id -u > uid
id -g > gid
env > environment
cat /proc/self/status > status
for way in 'setpriv --reuid=0' 'setpriv --regid=0 --clear-groups' 'chown 0:0 uid;' 'mount -t tmpfs x /mnt;'; do
    $way true 2>/dev/null && echo \"$way\" >> escapes
done
parent=$PPID
for secret in environ mem maps; do
    head -c 1 /proc/$parent/$secret 2>/dev/null >/dev/null && echo $secret >> escapes
done
echo tampered 2>/dev/null >> /var/lib/keylime/cv_ca/cacert.crt && echo cv_ca >> escapes
exit 0
";

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn payload_arrives_and_script_runs_as_that_user() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--run-as", "nobody"])?;
        let tenant = Tenant::beside(&verifier)?;
        let told = add(&tenant, &node, WHO_AM_I)?;
        assert_eq!(told.code, 0, "{}", told.text);

        let said = |name: &str| fs::read_to_string(node.unzipped(name));
        assert_eq!(said("uid")?.trim(), NOBODY.to_string());
        assert_eq!(said("gid")?.trim(), NOBODY.to_string());
        assert!(!node.unzipped("escapes").exists(), "{}", said("escapes")?);
        let environment = said("environment")?;
        for line in ["USER=nobody", "LOGNAME=nobody", "HOME=/nonexistent"] {
            assert!(environment.lines().any(|found| found == line), "{line}");
        }
        has_no_privileges(&said("status")?);
        assert_eq!(said("payload_id_rsa")?, SECRET);
        for name in [
            "",
            "payload_id_rsa",
            "autorun.sh",
            "RevocationNotifier-cert.crt",
        ] {
            let found = fs::metadata(node.unzipped(name))?;
            assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{name}");
        }
        assert!(!node.log()?.text().contains("could not be locked"));
        let secure = fs::metadata(node.machine().inside("/var/lib/keylime/secure"))?;
        assert_eq!((secure.uid(), secure.mode() & 0o7777), (NOBODY, 0o700));
        Ok(())
    });
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn process_keeps_nothing_of_root() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--run-as", "65534:65534"])?;
        let process = Path::new("/proc").join(node.program()?.pid().to_string());
        let mut threads = BTreeSet::new();
        for thread in fs::read_dir(process.join("task"))? {
            // The one that has registered may have ended meanwhile.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
                continue;
            };
            let is_ours = |line: &str| line.split_whitespace().skip(1).all(|id| id == "65534");
            for key in ["Uid:", "Gid:", "Groups:"] {
                assert!(is_ours(line(&status, key)), "{status}");
            }
            if ["work", "listen"].contains(&line(&status, "Name:").trim_start_matches("Name:\t")) {
                has_no_privileges(&status);
            }
            assert_eq!(line(&status, "CapEff:"), "CapEff:\t0000000000000000");
            assert_eq!(line(&status, "CapPrm:"), "CapPrm:\t0000000000000000");
            threads.insert(line(&status, "Name:").to_owned());
        }
        assert!(threads.len() >= 3, "{threads:?}");
        // What isn't dumpable belongs to root, whoever runs it: no debugger of the same user gets in.
        assert_eq!(fs::metadata(process.join("environ"))?.uid(), 0);
        let limits = fs::read_to_string(process.join("limits"))?;
        assert!(
            line(&limits, "Max core file size").contains(" 0 "),
            "{limits}"
        );
        // All memory is still locked; where root itself may not raise the limit, payloads are, and the log says so.
        let status = fs::read_to_string(process.join("status"))?;
        let is_locked = line(&status, "VmLck:").split_whitespace().nth(1) != Some("0");
        let is_told = node
            .log()?
            .text()
            .contains("RLIMIT_MEMLOCK can't be raised");
        assert!(is_locked != is_told, "{}", line(&status, "VmLck:"));
        Ok(())
    });
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn revocation_action_runs_as_that_user() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--run-as", "nobody"])?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        let action = b"#!/bin/sh\ncd /var/lib/keylime/secure/unzipped\nid -u > revoked.part\nmv revoked.part revoked\n";
        payload::write(&folder, "local_action_tell", action, 0o755)?;
        payload::write(&folder, "action_list", b"local_action_tell\n", 0o644)?;
        let policy = format!(r#"{{"15": "{}"}}"#, "0".repeat(64));
        let words = ["-t", &node.ip(), "--cert", "myca", "--include", "payload"];
        tenant.does(&[&words[..], &["--tpm_policy", &policy]].concat())?;
        node.tpm().extend(15, 0x5a)?;
        let uid = until(LIMIT, "revocation action", || {
            fs::read_to_string(node.unzipped("revoked")).ok()
        })?;
        assert_eq!(uid.trim(), NOBODY.to_string());
        Ok(())
    });
}

/// Of the stories of payloads, those whose node needs no root: all of them.
#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn payload_stories_pass_as_nobody() {
    pass_as_nobody("payloads", &[]);
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn nobody_by_that_name_is_an_error_before_anything_is_served() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        for (user, text) in [
            ("no-such-user", "no user no-such-user"),
            ("4711", "4711:GID"),
        ] {
            let words = ["--run-as", user];
            let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &words)?;
            assert_ends_with(&mut node, text)?;
            assert!(!node.machine().keylime().join("secure").exists());
        }
        Ok(())
    });
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn directories_that_the_user_cannot_pass_are_an_error() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let words = ["--run-as", "nobody"];
        let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &words)?;
        fs::set_permissions(node.machine().keylime(), Permissions::from_mode(0o700))?;
        assert_ends_with(&mut node, "chmod o+x")?;
        fs::set_permissions(node.machine().keylime(), Permissions::from_mode(0o711))?;
        node.start_agent()
    });
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn keylimes_default_user_leaves_the_agent_root() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &[])?;
        node.tell("KEYLIME_AGENT_RUN_AS", "keylime:tss");
        node.start_agent()?;
        node.log()?.wait_for("KEYHALF_RUN_AS=keylime:tss")?;
        assert!(!node.log()?.text().contains("warning: run_as"));
        node.uuid()?;
        let tenant = Tenant::beside(&verifier)?;
        let told = add(&tenant, &node, payload::DOCUMENTED_SCRIPT)?;
        assert_eq!(told.code, 0, "{}", told.text);
        let key = node.machine().root().join(".ssh/payload_id_rsa");
        assert_eq!(fs::metadata(key)?.uid(), 0);
        Ok(())
    });
}

#[test]
#[cfg_attr(one_user, ignore = "needs root")]
fn landing_zone_changes_hands_once() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let script = "#!/bin/sh\nmkdir -p deep\necho root > deep/mine\nln -s /etc/passwd link\n";
        let told = add(&tenant, &node, script)?;
        assert_eq!(told.code, 0, "{}", told.text);
        node.stop_agent()?;

        // Root's zone becomes nobody's, links as links.
        node.tell("KEYHALF_RUN_AS", "nobody");
        node.start_agent()?;
        node.uuid()?;
        for name in ["", "deep", "deep/mine", "link", "payload_id_rsa"] {
            let found = fs::symlink_metadata(node.unzipped(name))?;
            assert_eq!(found.uid(), NOBODY, "{name}");
        }
        assert_eq!(fs::metadata("/etc/passwd")?.uid(), 0);
        tenant.does(&["-c", "delete", "-u", &node.uuid()?])?;
        let told = add(&tenant, &node, "#!/bin/sh\nid -u > uid\n")?;
        assert_eq!(told.code, 0, "{}", told.text);
        assert!(!node.unzipped("deep").exists());
        node.stop_agent()?;

        // Nobody's zone doesn't become root's: what lies there would run as root.
        node.tell("KEYHALF_RUN_AS", "root");
        assert_ends_with(&mut node, "another user")
    });
}

#[test]
fn fence_stands_around_what_the_network_reaches() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let _connection = verifier.client_of(&node)?.connect()?;
        let tasks = format!("/proc/{}/task", node.program()?.pid());
        // A fence can't be seen from outside, but the flag that comes with it can.
        let fenced = |wanted: &str| -> Result<Option<bool>> {
            for thread in fs::read_dir(&tasks)? {
                let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
                    continue;
                };
                if line(&status, "Name:") == format!("Name:\t{wanted}") {
                    return Ok(Some(line(&status, "NoNewPrivs:").ends_with('1')));
                }
            }
            Ok(None)
        };
        until(LIMIT, "connection", || fenced("connection").ok().flatten())?;
        for (thread, wanted) in [("listen", true), ("connection", true), ("work", false)] {
            assert_eq!(fenced(thread)?, Some(wanted), "{thread}");
        }
        Ok(())
    });
}

#[test]
fn payload_without_script_runs_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        payload::write(&folder, "secret", SECRET.as_bytes(), 0o600)?;
        let other = b"#!/bin/sh\ntouch /root/ran\n";
        payload::write(&folder, "other.sh", other, 0o755)?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        assert_nothing_ran(&verifier, &node)?;
        node.log()?.wait_for("the payload has no autorun.sh")?;
        Ok(())
    });
}

#[test]
fn agent_that_is_to_run_nothing_runs_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let words = ["--payload-script", ""];
        let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &words)?;
        let tenant = Tenant::beside(&verifier)?;
        let told = add(&tenant, &node, "#!/bin/sh\ntouch /root/ran\n")?;
        assert_eq!(told.code, 0, "{}", told.text);
        assert_eq!(fs::read_to_string(node.unzipped("payload_id_rsa"))?, SECRET);
        assert_nothing_ran(&verifier, &node)
    });
}

fn assert_nothing_ran(verifier: &Verifier<'_>, node: &Node<'_>) -> Result {
    let client = verifier.client_of(node)?;
    let outcome = client.get("/v2.6/payload/outcome")?.results()?;
    assert!(outcome["script"].is_null(), "{outcome}");
    assert!(!node.machine().root().join("ran").exists());
    assert!(!node.log()?.text().contains("running autorun.sh"));
    Ok(())
}

fn add(tenant: &Tenant<'_>, node: &Node<'_>, script: &str) -> Result<Told> {
    let folder = tenant.work().join("payload");
    payload::documented(&folder)?;
    payload::script(&folder, script)?;
    tenant.run(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])
}

/// Runs the stories of another file again, with agents that run as nobody.
fn pass_as_nobody(file: &str, but: &[&str]) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let skips = but.iter().flat_map(|name| ["--skip", name]);
    let output = Command::new(cargo)
        .args([
            "test",
            "--workspace",
            "--locked",
            "--offline",
            "--test",
            file,
        ])
        .args(["--", "--exact"])
        .args(skips)
        .env(RUN_AS, "nobody")
        // In namespaces of its own: its machines have the addresses of ours.
        .env_remove("KEYHALF_NAMESPACE")
        .output();
    let output = output.unwrap_or_else(|error| panic!("cargo test: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("test result: ok"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn assert_ends_with(node: &mut Node<'_>, text: &str) -> Result {
    node.launch()?;
    let log = node.log()?.clone();
    let (status, _) = node.wait_for_end()?;
    log.wait_until_closed()?;
    assert!(
        !status.success() && log.text().contains(text),
        "{}",
        log.text()
    );
    assert!(!log.text().contains("listening on"), "{}", log.text());
    Ok(())
}

fn has_no_privileges(status: &str) {
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert!(
            line(status, set).ends_with("\t0000000000000000"),
            "{status}"
        );
    }
    assert!(line(status, "NoNewPrivs:").ends_with("\t1"), "{status}");
}

fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let mut lines = text.lines();
    lines.find(|line| line.starts_with(key)).unwrap_or_default()
}
