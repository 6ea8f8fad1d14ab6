//! Keylime's documented example, played on this machine with a software TPM: `./hw-tests/demo` runs it.

use std::fs;
use std::io::{IsTerminal, stdout};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::payload;
use hw_tests::process::{LIMIT, until};
use hw_tests::servers::Verifier;
use hw_tests::site::Site;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::{Tenant, Told};

fn main() -> ExitCode {
    let stage = Stage {
        colour: stdout().is_terminal(),
    };
    let site = match Site::new() {
        Ok(site) => site,
        Err(_) => {
            eprintln!("the demo needs namespaces and built programs: run ./hw-tests/demo");
            return ExitCode::from(2);
        }
    };
    match play(&stage, &site) {
        Ok(()) => {
            stage.act("That was it. Nothing of it is left on this machine.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            for log in site.logs() {
                eprintln!("---- {} said\n{}", log.name(), log.text());
            }
            eprintln!("---- the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(stage: &Stage, site: &Site) -> Result {
    stage.act("A verifier with its registrar, and a node with a TPM 2.0 (swtpm)");
    let verifier = Verifier::start_at(site, Ipv4Addr::LOCALHOST, &[])?;
    stage.note("keyhalf-verifier listens on 127.0.0.1:8881, its registrar on 8890 and 8891");
    let node = Node::boot(&verifier, Swtpm::fresh(site)?)?;
    let uuid = node.uuid()?;
    stage.note(&format!(
        "keyhalf-agent listens on {}:9002 and proved to the registrar that it is",
        node.ip()
    ));
    stage.note(&uuid);

    let tenant = Tenant::beside(&verifier)?;
    secret_arrives(stage, &tenant, &node)?;
    change_is_noticed(stage, &tenant, &node, &uuid)?;
    changed_node_gets_nothing(stage, &tenant, &node, &uuid)
}

fn secret_arrives(stage: &Stage, tenant: &Tenant<'_>, node: &Node<'_>) -> Result {
    stage.act("Keylime's documented example: SSH keys, and a script that puts them into place");
    payload::documented(&tenant.work().join("payload"))?;
    stage.command("ls payload");
    stage.output("autorun.sh  payload_id_rsa  payload_id_rsa.pub");
    stage.command("cat payload/autorun.sh");
    stage.output(payload::DOCUMENTED_SCRIPT);
    let told = run(
        stage,
        tenant,
        &["-t", &node.ip(), "--cert", "myca", "--include", "payload"],
    )?;
    must(told.code == 0, "the tenant failed")?;

    stage.act("On the node, after its TPM's quote has passed");
    stage.command("ls -l /var/lib/keylime/secure/unzipped");
    stage.list(&node.machine().unzipped())?;
    stage.command("ls -l /root/.ssh");
    let ssh = node.machine().root().join(".ssh");
    stage.list(&ssh)?;
    must(
        fs::read_to_string(ssh.join("payload_id_rsa"))? == payload::SECRET,
        "the secret didn't arrive",
    )
}

fn change_is_noticed(stage: &Stage, tenant: &Tenant<'_>, node: &Node<'_>, uuid: &str) -> Result {
    stage.act("A policy that names PCR 15, an action for the bad day, and then something that wasn't there before");
    payload::documented_with_action(&tenant.work().join("payload"))?;
    stage.command("cat payload/local_action_rm_ssh.py");
    stage.output(payload::DOCUMENTED_ACTION);
    let policy = clean_policy();
    let update = [
        "-c",
        "update",
        "-t",
        &node.ip(),
        "--cert",
        "myca",
        "--include",
        "payload",
        "--tpm_policy",
        &policy,
    ];
    must(run(stage, tenant, &update)?.code == 0, "the tenant failed")?;
    let before = node.log()?.len();
    stage.command("tpm2_pcrextend 15:sha256=5a5a5a...          # on the node");
    node.tpm().extend(15, 0x5a)?;
    let status = ["-c", "cvstatus", "-u", uuid];
    until(LIMIT, "failed attestation", || {
        tenant
            .run(&status)
            .ok()
            .filter(|told| told.text.contains("Invalid Quote"))
    })?;
    run(stage, tenant, &status)?;
    stage.note("the verifier signed a revocation and sent it to its nodes; the node's agent checked the signature and acted:");
    let action = "revocation action local_action_rm_ssh ended";
    stage.output(&node.log()?.wait_from(before, action)?);
    stage.command("ls /root/.ssh                                # on the node");
    let left = fs::read_dir(node.machine().root().join(".ssh"))?.count();
    must(left == 0, "the action left the keys where they were")
}

fn changed_node_gets_nothing(
    stage: &Stage,
    tenant: &Tenant<'_>,
    node: &Node<'_>,
    uuid: &str,
) -> Result {
    stage.act("The changed node is added again: it doesn't get the verifier's half of the key");
    fs::remove_dir_all(node.machine().root().join(".ssh"))?;
    must(
        run(stage, tenant, &["-c", "delete", "-u", uuid])?.code == 0,
        "the tenant failed",
    )?;
    let policy = clean_policy();
    let add = [
        "-t",
        &node.ip(),
        "--cert",
        "myca",
        "--include",
        "payload",
        "--tpm_policy",
        &policy,
    ];
    let told = run(stage, tenant, &add)?;
    must(told.code != 0, "a changed node got a payload")?;
    stage.command("ls /root/.ssh                                # on the node");
    must(
        !node.machine().root().join(".ssh").exists(),
        "the script ran on a changed node",
    )?;
    stage.output("ls: cannot access '/root/.ssh': No such file or directory");
    Ok(())
}

/// PCR 15 as it is after every reset.
fn clean_policy() -> String {
    format!(r#"{{"15": "{}"}}"#, "0".repeat(64))
}

fn run(stage: &Stage, tenant: &Tenant<'_>, arguments: &[&str]) -> Result<Told> {
    let words: Vec<String> = arguments
        .iter()
        .map(|word| {
            if word.contains(['"', ' ']) {
                format!("'{word}'")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    stage.command(&format!("keyhalf-tenant {}", words.join(" ")));
    let told = tenant.run(arguments)?;
    stage.output(&told.text);
    let took = told.took.as_millis();
    stage.note(&format!("exit code {}, after {took} ms", told.code));
    Ok(told)
}

fn must(holds: bool, otherwise: &str) -> Result {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Where the story is told: in colour to a person, plainly to a file.
struct Stage {
    colour: bool,
}

impl Stage {
    fn act(&self, text: &str) {
        println!("\n{}", self.paint("1;36", text));
    }

    fn note(&self, text: &str) {
        println!("  {}", self.paint("2", text));
    }

    fn command(&self, text: &str) {
        println!("  {}", self.paint("1;32", &format!("$ {text}")));
    }

    fn output(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    fn list(&self, dir: &Path) -> Result {
        let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let data = entry.metadata()?;
            let mode = data.permissions().mode() & 0o7777;
            println!(
                "    {mode:04o} {:>6} {}",
                data.len(),
                entry.file_name().to_string_lossy()
            );
        }
        Ok(())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
