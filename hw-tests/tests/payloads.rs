//! Payloads that are wrong, too large or hostile, and scripts that misbehave: a clear error, nothing half there, and the
//! next good one works.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::{Package, random};
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::{Tenant, Told};

#[test]
fn hostile_archives_are_refused_whole() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        for (what, archive) in payload::hostile()? {
            let told = deliver(&tenant, &node, &Package::of(&archive)?)?;
            assert_ne!(told.code, 0, "{what}: {}", told.text);
            assert_nothing_there(&node, what);
            assert!(!node.machine().root().join("escaped").exists(), "{what}");
            assert!(!node.machine().keylime().join("escaped").exists(), "{what}");
        }
        good_add_works(&tenant, &node)
    });
}

#[test]
fn zip_bomb_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let bomb = payload::archive(&[("zeros", &vec![0; 50 << 20])])?;
        assert!(bomb.len() < 100_000);
        let told = deliver(&tenant, &node, &Package::of(&bomb)?)?;
        assert_ne!(told.code, 0, "{}", told.text);
        assert_nothing_there(&node, "a bomb");
        good_add_works(&tenant, &node)
    });
}

#[test]
fn partial_unpack_leaves_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let told = deliver(
            &tenant,
            &node,
            &Package::of(&payload::wrong_in_the_middle()?)?,
        )?;
        assert_ne!(told.code, 0, "{}", told.text);
        assert_nothing_there(&node, "a wrong checksum");
        good_add_works(&tenant, &node)
    });
}

#[test]
fn setuid_bits_are_dropped() {
    use std::os::unix::fs::PermissionsExt;
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        deliver(&tenant, &node, &Package::of(&payload::setuid()?)?)?;
        let mode = fs::metadata(node.unzipped("tool"))?.permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{mode:o}");
        Ok(())
    });
}

#[test]
fn tampered_payload_is_not_opened() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let archive = payload::archive(&[("autorun.sh", b"#!/bin/sh\ntouch /root/ran\n")])?;
        for (what, at) in [("nonce", 0), ("ciphertext", 20), ("tag", -1)] {
            let told = deliver(&tenant, &node, &Package::of(&archive)?.tampered(at))?;
            assert_ne!(told.code, 0, "{what}: {}", told.text);
            assert_nothing_there(&node, what);
            assert!(!node.machine().root().join("ran").exists(), "{what}");
        }
        good_add_works(&tenant, &node)
    });
}

#[test]
fn payload_too_large_is_refused_before_sending() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let noise: Vec<u8> = (0..5 << 10)
            .map(|_| random::<1024>())
            .collect::<Result<Vec<_>>>()?
            .concat();
        payload::write(&tenant.work().join("large"), "noise", &noise, 0o600)?;
        let told = tenant.fails(&["-t", &node.ip(), "--cert", "myca", "--include", "large"])?;
        told.says(&["limit"])?;
        assert_eq!(
            node.tpm().tally().count(code::RSA_DECRYPT),
            0,
            "no key half was sent"
        );
        assert_nothing_there(&node, "too large");
        good_add_works(&tenant, &node)
    });
}

#[test]
fn payload_near_the_limit_arrives() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let noise: Vec<u8> = (0..3 << 10)
            .map(|_| random::<1024>())
            .collect::<Result<Vec<_>>>()?
            .concat();
        payload::write(&tenant.work().join("large"), "noise", &noise, 0o600)?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "large"])?;
        assert!(fs::read(node.unzipped("noise"))? == noise);
        Ok(())
    });
}

#[test]
fn full_landing_zone_leaves_nothing() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let filler = node.machine().inside("/var/lib/keylime/secure/filler");
        let mut file = fs::File::create(&filler)?;
        let full = std::io::copy(&mut std::io::repeat(0), &mut file);
        assert!(full.is_err(), "the landing zone has no end");

        payload::documented(&tenant.work().join("payload"))?;
        let add = ["-t", &node.ip(), "--cert", "myca", "--include", "payload"];
        let told = tenant.fails(&add)?;
        told.says(&["full"])?;
        assert!(!node.machine().unzipped().exists());
        assert!(!node.machine().root().join(".ssh").exists());

        drop(file);
        fs::remove_file(filler)?;
        tenant.does(&["-c", "delete", "-u", &node.uuid()?])?;
        tenant.does(&add)?;
        Ok(())
    });
}

#[test]
fn foreign_mount_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::install(&verifier, Swtpm::fresh(site)?, &[])?;
        let secure = "/var/lib/keylime/secure";
        run_on(
            &node,
            &format!("mkdir -p {secure} && mount -t tmpfs -o mode=0777 tmpfs {secure}"),
        )?;
        node.launch()?;
        let log = node.log()?.clone();
        let (status, _) = node.wait_for_end()?;
        assert!(!status.success(), "the agent took a foreign mount");
        log.wait_until_closed()?;
        assert!(log.text().contains(secure), "{}", log.text());

        run_on(&node, &format!("umount {secure}"))?;
        node.start_agent()?;
        let tenant = Tenant::beside(&verifier)?;
        good_add_works(&tenant, &node)
    });
}

#[test]
fn landing_zone_flags() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        good_add_works(&tenant, &node)?;
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", node.program()?.pid()))?;
        let mount = mounts
            .lines()
            .find(|line| line.contains("/var/lib/keylime/secure "))
            .ok_or("no landing zone")?;
        for wanted in ["tmpfs", "nosuid", "nodev"] {
            assert!(mount.contains(wanted), "no {wanted}: {mount}");
        }
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(node.machine().inside("/var/lib/keylime/secure"))?
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700);
        Ok(())
    });
}

#[test]
fn no_secret_left_beside_payload() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        good_add_works(&tenant, &node)?;
        assert_eq!(
            node.landed(),
            ["unzipped"],
            "nothing but the payload is in the landing zone"
        );
        let files = names(&node.machine().unzipped())?;
        for name in ["derived_tci_key", "decrypted_payload"] {
            assert!(
                !files.iter().any(|file| file == name),
                "{name} lies beside the payload"
            );
        }
        Ok(())
    });
}

#[test]
fn autorun_nonzero_is_reported() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let told = run_script(&tenant, &node, "#!/bin/sh\nexit 3\n")?;
        assert_ne!(told.code, 0);
        told.says(&["3"])?;
        let told = run_script(&tenant, &node, "#!/bin/sh\nkill -SEGV $$\n")?;
        assert_ne!(told.code, 0);
        told.says(&["signal"])?;
        let told = run_script(&tenant, &node, "#!/no/such/interpreter\n")?;
        assert_ne!(told.code, 0, "{}", told.text);
        good_add_works(&tenant, &node)
    });
}

#[test]
fn autorun_1mb_output_is_fine() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let script = "#!/bin/sh\nhead -c 1048576 /dev/zero | tr '\\0' x\nhead -c 1048576 /dev/zero | tr '\\0' y >&2\ntouch /root/end\n";
        let told = run_script(&tenant, &node, script)?;
        assert_eq!(told.code, 0, "{}", told.text);
        assert!(node.machine().root().join("end").exists());
        assert!(node.log()?.text().len() < 1 << 19, "the log is bounded");
        Ok(())
    });
}

#[test]
fn autorun_that_never_ends_is_ended() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot_with(
            &verifier,
            Swtpm::fresh(site)?,
            &["--payload-script-timeout", "1"],
        )?;
        let tenant = Tenant::beside(&verifier)?;
        // It ignores the polite signal, too.
        let told = run_script(
            &tenant,
            &node,
            "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 271828; done\n",
        )?;
        assert_ne!(told.code, 0);
        told.says(&["time"])?;
        wait_until_gone("271828")?;
        good_add_works(&tenant, &node)
    });
}

#[test]
fn autorun_leaves_nobody_behind() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let script = "#!/bin/sh\nsleep 314159 &\nsetsid sleep 314159 &\n(setsid sh -c 'sleep 314159 & exec sleep 314159' &)\nexit 0\n";
        let told = run_script(&tenant, &node, script)?;
        assert_eq!(told.code, 0, "{}", told.text);
        wait_until_gone("314159")?;
        tenant.does(&["-c", "delete", "-u", &node.uuid()?])?;
        good_add_works(&tenant, &node)
    });
}

#[test]
fn agent_answers_while_autorun_runs() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        payload::script(
            &folder,
            "#!/bin/sh\ntouch /root/runs\nwhile [ ! -e /root/go ]; do sleep 0.02; done\n",
        )?;
        let (mut add, log, _) =
            tenant.launch(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        until(LIMIT, "script", || {
            node.machine().root().join("runs").exists().then_some(())
        })?;

        let client = verifier.client_of(&node)?;
        for _ in 0..3 {
            client
                .get("/v2.6/quotes/identity?nonce=whileautorunruns")?
                .results()?;
            client
                .get("/v2.6/keys/verify?challenge=whileautorunruns")?
                .results()?;
        }
        let outcome = client.get("/v2.6/payload/outcome")?.results()?;
        assert_eq!(outcome["stage"], "unpacked", "{outcome}");

        fs::write(node.machine().root().join("go"), "")?;
        let status = add.wait(LIMIT)?;
        assert!(status.success(), "{}", log.text());
        Ok(())
    });
}

#[test]
fn script_has_a_clean_environment() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let told = run_script(
            &tenant,
            &node,
            "#!/bin/sh\nenv > /root/environment\npwd > /root/directory\n",
        )?;
        assert_eq!(told.code, 0, "{}", told.text);
        let environment = fs::read_to_string(node.machine().root().join("environment"))?;
        assert!(!environment.contains("TCTI"), "{environment}");
        assert!(
            environment.lines().any(|line| line.starts_with("PATH=")),
            "{environment}"
        );
        let directory = fs::read_to_string(node.machine().root().join("directory"))?;
        assert_eq!(directory.trim_end(), "/var/lib/keylime/secure/unzipped");
        Ok(())
    });
}

#[test]
fn include_missing_is_an_error() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        tenant
            .fails(&["-t", &node.ip(), "--cert", "myca", "--include", "nowhere"])?
            .says(&["nowhere"])?;
        good_add_works(&tenant, &node)
    });
}

#[test]
fn ca_init_never_deletes() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let mine = ["mine.pem", "mine.crt", "mine.zip", "mine.der"];
        for name in mine {
            payload::write(&tenant.work().join("myca"), name, b"mine", 0o600)?;
        }
        tenant.run(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        for name in mine {
            assert_eq!(
                fs::read(tenant.work().join("myca").join(name))?,
                b"mine",
                "{name}"
            );
        }
        Ok(())
    });
}

/// Takes the node off the verifier if it is there, and adds it again with a package made by hand.
fn deliver(tenant: &Tenant<'_>, node: &Node<'_>, package: &Package) -> Result<Told> {
    tenant.run(&["-c", "delete", "-u", &node.uuid()?])?;
    package.write(&tenant.work())?;
    tenant.run(&["-t", &node.ip(), "-k", "key", "-p", "payload"])
}

fn run_script(tenant: &Tenant<'_>, node: &Node<'_>, script: &str) -> Result<Told> {
    tenant.run(&["-c", "delete", "-u", &node.uuid()?])?;
    let folder = tenant.work().join("scripted");
    payload::script(&folder, script)?;
    tenant.run(&["-t", &node.ip(), "--cert", "myca", "--include", "scripted"])
}

/// What must hold after anything that went wrong, without a word to the verifier in between.
fn good_add_works(tenant: &Tenant<'_>, node: &Node<'_>) -> Result {
    let folder = tenant.work().join("good");
    payload::script(&folder, "#!/bin/sh\necho good > /root/good\n")?;
    // An agent that has just started must be at the registrar first.
    node.uuid()?;
    let told = tenant.run(&["-t", &node.ip(), "--cert", "myca", "--include", "good"])?;
    assert_eq!(told.code, 0, "the next good add: {}", told.text);
    assert_eq!(
        fs::read_to_string(node.machine().root().join("good"))?,
        "good\n"
    );
    Ok(fs::remove_file(node.machine().root().join("good"))?)
}

fn assert_nothing_there(node: &Node<'_>, after: &str) {
    let files = names(&node.machine().unzipped()).unwrap_or_default();
    assert!(
        files.is_empty(),
        "{files:?} is in the landing zone after {after}"
    );
    let landed = node.landed();
    assert!(
        landed.iter().all(|name| name == "unzipped"),
        "{landed:?} is in the landing zone after {after}"
    );
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn run_on(node: &Node<'_>, script: &str) -> Result {
    let status = node.machine().command("sh").args(["-c", script]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{script}: {status}").into())
    }
}

/// Waits until no process has `argument` on its command line.
fn wait_until_gone(argument: &str) -> Result {
    until(
        Duration::from_secs(10),
        &format!("end of sleep {argument}"),
        || {
            let mut processes = fs::read_dir("/proc").ok()?.flatten();
            let runs = processes.any(|process| {
                fs::read(process.path().join("cmdline")).is_ok_and(|line| {
                    line.split(|&byte| byte == 0)
                        .any(|part| part == argument.as_bytes())
                })
            });
            (!runs).then_some(())
        },
    )
}
