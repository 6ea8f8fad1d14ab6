//! Where secrets must never be found, searched for with canaries.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hw_tests::Result;
use hw_tests::bus::code;
use hw_tests::byhand::Package;
use hw_tests::node::Node;
use hw_tests::payload::{self, SECRET};
use hw_tests::process::LIMIT;
use hw_tests::servers::Verifier;
use hw_tests::site::{Site, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn no_secret_in_logs_db_or_core() {
    for level in ["info", "debug", "trace"] {
        story(|site| {
            let mut verifier = Verifier::start_with(site, &["--log-level", level])?;
            let node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &["--log-level", level])?;
            let tenant = Tenant::beside(&verifier)?;
            let work = tenant.work();
            let package = hw_tests::byhand::Package::of(&payload::archive(&[(
                "secret",
                SECRET.as_bytes(),
            )])?)?;
            package.write(&work)?;
            let keys = fs::read_to_string(work.join("key"))?;
            tenant.does(&["-t", &node.ip(), "-k", "key", "-p", "payload"])?;
            assert_eq!(fs::read(node.unzipped("secret"))?, SECRET.as_bytes());

            let needles = needles(&keys)?;
            for log in site.logs() {
                assert_clean(&needles, log.text().as_bytes(), log.name());
            }
            let uuid = node.uuid()?;
            let record = verifier.client()?.get(&format!("/v2.6/agents/{uuid}"))?;
            assert_clean(&needles, record.body.as_bytes(), "the verifier's record");
            // With the node's tmpfs out of sight, its disk; and the verifier's, while it runs and after a crash.
            let own = ["key", "payload"].map(|name| work.join(name));
            assert_disk_clean(site, &needles, &own)?;
            verifier.kill()?;
            assert_disk_clean(site, &needles, &own)
        });
    }
}

#[test]
fn canary_is_in_the_landing_zone_alone() {
    story(|site| {
        let loud = ["--log-level", "trace"];
        let core = getrlimit(Resource::Core).maximum;
        let wide = Rlimit {
            current: core,
            maximum: core,
        };
        setrlimit(Resource::Core, wide)?;
        let mut verifier = Verifier::start_with(site, &loud)?;
        let mut node = Node::boot_with(&verifier, Swtpm::fresh(site)?, &loud)?;
        let tenant = Tenant::beside(&verifier)?;
        let (folder, ca) = (tenant.work().join("payload"), tenant.work().join("myca"));
        payload::write(&folder, "payload_id_rsa", SECRET.as_bytes(), 0o600)?;
        payload::script(&folder, "#!/bin/sh\nexit 0\n")?;
        let policy = format!(r#"{{"15": "{}"}}"#, "0".repeat(64));
        let words = ["-t", &node.ip(), "--cert", "myca", "--include", "payload"];
        tenant.does(&[&words[..], &["--tpm_policy", &policy]].concat())?;
        // The revocation key is used, too.
        let good = node.log()?.len();
        node.tpm().extend(15, 0x5a)?;
        node.log()?.wait_from(good, "revocation notice verified")?;

        let mut needles = forms(SECRET.as_bytes());
        let key = PrivateKeyDer::from_pem_file(ca.join("RevocationNotifier-private.pem"))?;
        // Its last bytes are of its primes; those before them are in its certificate, too.
        let last = key.secret_der().len() - 96;
        needles.extend(forms(&key.secret_der()[last..]));
        assert_clean_of(&needles, site, &[folder.clone(), ca.clone()])?;

        // Whoever aborts them gets no core, wherever the kernel would write it.
        for (name, pid) in [
            ("the agent", node.program()?.pid()),
            ("the verifier", verifier.program()?.pid()),
        ] {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            kill_process(pid.ok_or(name)?, Signal::ABORT)?;
        }
        let ended = [node.wait_for_end()?.0, verifier.stop()?.0];
        for status in ended {
            assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
            assert!(!status.core_dumped(), "{status}");
        }
        assert_clean_of(&needles, site, &[folder, ca])?;
        let landed = fs::read(node.unzipped("payload_id_rsa"))?;
        assert!(find(&landed, &needles[0]), "the search finds what is there");
        Ok(())
    });
}

#[test]
fn aborted_tenant_leaves_no_core() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let folder = tenant.work().join("payload");
        payload::script(&folder, "#!/bin/sh\nexec sleep 60\n")?;
        let (ip, words) = (node.ip(), ["--cert", "myca", "--include", "payload"]);
        let (mut program, ..) = tenant.launch(&[&["-t", &ip], &words[..]].concat())?;
        // It has sealed, and waits for the script.
        node.log()?.wait_for("running autorun.sh")?;
        let pid = i32::try_from(program.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("no process")?, Signal::ABORT)?;
        let status = program.wait(LIMIT)?;
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
        assert!(!status.core_dumped(), "{status}");
        Ok(())
    });
}

#[test]
fn aborted_programs_of_others_leave_a_core() {
    // What the story above relies on: where this machine writes cores to files at all, the flag shows it.
    let limit = getrlimit(Resource::Core).maximum;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let script = "ulimit -c \"$(ulimit -H -c)\"; kill -ABRT $$";
    let dir = tempfile::tempdir().expect("a directory");
    let status = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir.path())
        .status()
        .expect("bash");
    let writes_files =
        limit != Some(0) && !pattern.starts_with(['|', '@']) && !pattern.trim().is_empty();
    assert!(status.core_dumped() || !writes_files, "{status} {pattern}");
}

#[test]
fn revocation_key_is_not_in_the_database() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        let record = verifier
            .client()?
            .get(&format!("/v2.6/agents/{}", node.uuid()?))?;
        assert!(!record.body.contains("PRIVATE KEY"), "{}", record.body);
        verifier.stop()?;
        for path in files(&verifier.machine().keylime())? {
            let is_database = path.to_string_lossy().contains("sqlite");
            let leaks = find(&fs::read(&path)?, b"PRIVATE KEY");
            assert!(!is_database || !leaks, "{}", path.display());
        }
        Ok(())
    });
}

#[test]
fn payload_is_wiped_from_the_agents_memory() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        // A secret that deflate can't hide and that is nowhere else.
        let secret = hw_tests::byhand::random::<4096>()?;
        fs::write(tenant.work().join("secret.bin"), secret)?;
        tenant.does(&["-t", &node.ip(), "-f", "secret.bin"])?;
        let pid = node.program()?.pid();
        for at in (0..4096).step_by(64) {
            assert!(
                !memory_has(pid, &secret[at..at + 64])?,
                "bytes {at} and on of the payload are in memory"
            );
        }
        // The search finds what is there: the agent's own name.
        assert!(memory_has(pid, b"keyhalf-agent")?);
        Ok(())
    });
}

#[test]
fn halves_are_wiped_from_the_agents_memory() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        let package = Package::of(b"not an archive")?;
        package.write(&tenant.work())?;
        tenant.does(&["-t", &node.ip(), "-k", "key", "-p", "payload"])?;
        let pid = node.program()?.pid();
        // The key stays, for keys/verify; the halves have done their work.
        let [key, u, v] = package.parts();
        for (name, half) in [("U", u), ("V", v)] {
            assert!(!memory_has(pid, half)?, "{name} is in memory");
        }
        assert!(memory_has(pid, key)?, "the search finds what is there");
        Ok(())
    });
}

#[test]
fn agent_leaves_no_core_dump() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let limits = fs::read_to_string(format!("/proc/{}/limits", node.program()?.pid()))?;
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .ok_or("no limit")?;
        let numbers: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(numbers, ["0", "0"], "{core}");
        Ok(())
    });
}

#[test]
fn transport_key_stays_in_tpm() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        // Both halves were opened by the TPM, and nothing on the node's disk is a private key.
        assert!(node.tpm().tally().count(code::RSA_DECRYPT) >= 2);
        for path in files(&node.machine().keylime())? {
            assert!(
                !find(&fs::read(&path)?, b"PRIVATE KEY"),
                "{}",
                path.display()
            );
        }
        Ok(())
    });
}

#[test]
fn private_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        tenant.does(&["-t", &node.ip(), "--cert", "myca", "--include", "payload"])?;
        let mut seen = 0;
        for path in files(&verifier.machine().keylime())?
            .into_iter()
            .chain(files(&tenant.work().join("myca"))?)
        {
            if find(&fs::read(&path)?, b"PRIVATE KEY") || path.ends_with("at_rest.key") {
                let mode = fs::metadata(&path)?.permissions().mode();
                assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 4, "found only {seen} private files");
        Ok(())
    });
}

/// The payload's secret and the three keys, in all their forms.
fn needles(keyfile: &str) -> Result<Vec<Vec<u8>>> {
    let mut needles = forms(SECRET.as_bytes());
    for line in keyfile.lines() {
        needles.extend(forms(&BASE64.decode(line)?));
    }
    Ok(needles)
}

/// A secret as raw bytes, in hex, as `Debug` prints a slice, and in base64, wherever in a longer text it stands.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut forms = vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        list.join(", ").into_bytes(),
    ];
    // Three bytes are four letters: which three go together depends on what stands before.
    for start in 0..3 {
        let inner = &secret[start..];
        let whole = BASE64.encode(&inner[..inner.len() / 3 * 3]);
        forms.push(whole.into_bytes());
    }
    forms
}

/// As [`assert_disk_clean`], and all that the programs said, with what they were told to say most.
fn assert_clean_of(needles: &[Vec<u8>], site: &Site, but: &[PathBuf]) -> Result {
    for log in site.logs() {
        assert_clean(needles, log.text().as_bytes(), log.name());
    }
    assert_disk_clean(site, needles, but)
}

/// Searches every file of the scenario, on all its machines: databases, working directories, homes. The nodes' tmpfs is out of
/// sight, and what the operator keeps is left out.
fn assert_disk_clean(site: &Site, needles: &[Vec<u8>], but: &[PathBuf]) -> Result {
    let mut seen = 0;
    for path in files(site.dir())? {
        if but.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        match fs::read(&path) {
            Ok(content) => assert_clean(needles, &content, &path.display().to_string()),
            // A journal of the database that has done its work.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        seen += usize::from(path.to_string_lossy().contains("sqlite"));
    }
    assert!(seen > 0, "no database was among the files");
    Ok(())
}

fn assert_clean(needles: &[Vec<u8>], text: &[u8], place: &str) {
    for (number, needle) in needles.iter().enumerate() {
        assert!(!find(text, needle), "secret {number} is in {place}");
    }
}

fn find(text: &[u8], what: &[u8]) -> bool {
    let Some(&first) = what.first() else {
        return false;
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == first) {
        if rest[at..].starts_with(what) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// All regular files below `dir`.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Searches the private, writable memory of a process.
fn memory_has(pid: u32, what: &[u8]) -> Result<bool> {
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').ok_or("no range")?;
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let mut piece = Vec::new();
        memory.seek(SeekFrom::Start(start))?;
        // A guard page can't be read: what comes before it counts.
        let _guard = (&mut memory).take(end - start).read_to_end(&mut piece);
        if find(&piece, what) {
            return Ok(true);
        }
    }
    Ok(false)
}
