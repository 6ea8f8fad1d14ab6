//! The agent as one static file without a C library: what an initramfs carries. `./hw-tests/test` builds it first.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use hw_tests::Result;
use hw_tests::day::untouched_23;
use hw_tests::node::{Build, Node};
use hw_tests::payload::{self, SECRET};
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::{Servers, Verifier};
use hw_tests::site::{self, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

/// The most that it may hold in memory when nothing is to do.
const MAX_IDLE_KIB: u64 = 4096;

#[test]
fn static_agent_is_one_file() -> Result {
    let file = fs::read(site::programs()?.join(Build::Static.program()))?;
    assert!(!asks_for_an_interpreter(&file)?, "it isn't static");
    // The same question finds the dynamic linker where there is one: an answer that is always no would prove nothing.
    let usual = fs::read(site::programs()?.join(Build::Usual.program()))?;
    assert!(asks_for_an_interpreter(&usual)?);
    Ok(())
}

#[test]
fn static_agent_holds_little_memory() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = boot(&verifier, Build::Static, &[])?;
        let status = fs::read_to_string(format!("/proc/{}/status", node.program()?.pid()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.ok_or("no VmRSS")?.trim().trim_end_matches(" kB");
        let resident: u64 = resident.parse()?;
        assert!(resident <= MAX_IDLE_KIB, "{resident} KiB");
        Ok(())
    });
}

/// It neither unwinds nor has what a backtrace is read from; what it panicked at is said all the same.
#[test]
fn static_agent_says_what_it_panicked_at_and_aborts() -> Result {
    let program = |build: Build| -> Result<Command> {
        Ok(Command::new(site::programs()?.join(build.program())))
    };
    assert_eq!(
        panicked(program(Build::Static)?)?.signal(),
        Some(libc::SIGABRT)
    );
    // The other builds unwind: if these looked alike, the answer above would prove nothing.
    assert_eq!(panicked(program(Build::Usual)?)?.code(), Some(UNWOUND));
    Ok(())
}

#[test]
fn static_agent_for_arm_says_what_it_panicked_at_and_aborts() -> Result {
    let mut agent = Command::new("qemu-aarch64-static");
    agent.arg(site::programs()?.join(Build::StaticArm.program()));
    assert_eq!(panicked(agent)?.signal(), Some(libc::SIGABRT));
    Ok(())
}

/// std's exit code of a program whose main thread has panicked.
const UNWOUND: i32 = 101;

/// Has an agent panic for a reason outside of it, and looks for the message. Its standard error is a socket, and the error that
/// it has to write there longer than a datagram can be: std's `eprintln!` panics then. What that has to say is short enough.
fn panicked(mut agent: Command) -> Result<ExitStatus> {
    let [hears, says] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0"));
    let (hears, says) = (hears?, says?);
    says.connect(hears.local_addr()?)?;
    agent.arg(format!("--{}", "x".repeat(usize::from(u16::MAX))));
    // Where core dumps are on, this one goes with the directory.
    let dir = tempfile::tempdir()?;
    agent.current_dir(dir.path()).stderr(OwnedFd::from(says));
    let status = agent.status()?;
    // What was sent to this machine itself has arrived.
    hears.set_nonblocking(true)?;
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    while let Ok(size) = hears.recv(&mut piece) {
        said.push_str(&String::from_utf8_lossy(&piece[..size]));
    }
    for wanted in ["panicked at ", "failed printing to stderr: "] {
        assert!(said.contains(wanted), "{wanted:?} isn't in {said:?}");
    }
    Ok(status)
}

/// QEMU's user mode (7.2) knows no child subreaper, without which the agent runs nothing: so no script here.
#[test]
fn static_agent_for_arm_gets_its_payload() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = boot(&verifier, Build::StaticArm, &["--payload-script="])?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented(&tenant.work().join("payload"))?;
        let (ip, policy) = (node.ip(), untouched_23());
        let whom = ["-t", &ip, "--tpm_policy", &policy];
        tenant.does(&[&whom[..], &["--cert", "myca", "--include", "payload"]].concat())?;
        let landed = fs::read_to_string(node.unzipped("payload_id_rsa"))?;
        assert_eq!(landed, SECRET);
        Ok(())
    });
}

/// The same TPM gives the same node, whichever of the back-ends asks it.
#[test]
fn static_agent_is_the_same_node() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let mut node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
        let usual = node.uuid()?;
        let record = |uuid: &str| {
            verifier
                .registrar_client()?
                .get(&format!("/v2.6/agents/{uuid}"))?
                .results()
        };
        let before = record(&usual)?;
        node.stop_agent()?;
        node.use_build(Build::Static);
        node.start_agent()?;
        assert_eq!(node.wait_until_registered()?, usual);
        let after = record(&usual)?;
        for field in ["ek_tpm", "aik_tpm", "ekcert", "mtls_cert"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        Ok(())
    });
}

#[test]
fn static_agent_runs_the_documented_example() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let node = boot(&verifier, Build::Static, &[])?;
        let tenant = Tenant::beside(&verifier)?;
        payload::documented_with_action(&tenant.work().join("payload"))?;
        let (ip, policy) = (node.ip(), untouched_23());
        let whom = ["-t", &ip, "--tpm_policy", &policy];
        tenant.does(&[&whom[..], &["--cert", "myca", "--include", "payload"]].concat())?;
        let secret = node.machine().root().join(".ssh/payload_id_rsa");
        assert_eq!(fs::read_to_string(&secret)?, SECRET);
        node.tpm().extend(23, 1)?;
        until(LIMIT, "the action's work", || {
            (!secret.exists()).then_some(())
        })
    });
}

fn boot<'site>(verifier: &Verifier<'site>, build: Build, options: &[&str]) -> Result<Node<'site>> {
    let mut node = Node::install(verifier, Swtpm::fresh(verifier.site())?, options)?;
    node.use_build(build);
    node.start_agent()?;
    node.wait_until_registered()?;
    Ok(node)
}

/// Whether a program names a dynamic linker: a program header of the type `PT_INTERP`.
///
/// Source: elf(5), for 64 bits and little-endian.
fn asks_for_an_interpreter(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, size: usize| -> Result<usize> {
        let bytes = elf.get(at..at + size).ok_or("cut short")?;
        let value = bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(usize::try_from(value)?)
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return Err("no 64-bit ELF file".into());
    }
    let (table, entry_bytes, entries) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for entry in 0..entries {
        if number(table + entry * entry_bytes, 4)? == usize::try_from(PT_INTERP)? {
            return Ok(true);
        }
    }
    Ok(false)
}
