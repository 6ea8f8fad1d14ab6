//! `./hw-tests/boot`: a user's own image beside a verifier, as its help tells it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hw_tests::Result;
use hw_tests::guest::initramfs::Initramfs;
use hw_tests::guest::kernel::Kernel;
use hw_tests::node::Build;
use hw_tests::payload;
use hw_tests::process::Program;
use hw_tests::site::{Site, programs, story};
use hw_tests::tenant::Told;

#[test]
fn image_of_ones_own_boots_and_gets_its_payload() {
    story(|site| {
        let (state, image) = (site.dir().join("state"), site.dir().join("image"));
        let told = boot(site, &state, &["--prepare"])?;
        told.says(&[&state.join("keyhalf").display().to_string()])?;
        let anchor = state.join("verifier/cv_ca/cacert.crt");

        let kernel = Kernel::unpacked()?;
        let mut initramfs = Initramfs::minimal(&kernel)?;
        initramfs.agent(&programs()?.join(Build::Static.program()), &[])?;
        initramfs.file("/etc/cacert.crt", 0o644, fs::read(anchor)?)?;
        initramfs.file("/etc/guest/agent", 0o755, AGENT.into())?;
        fs::write(&image, initramfs.archive()?)?;
        let folder = site.dir().join("payload");
        payload::documented(&folder)?;
        let [kernel, image, folder] =
            [kernel.image(), &image, &folder].map(|path| path.display().to_string());
        let arguments = [
            "--kernel",
            &kernel,
            "--initrd",
            &image,
            "--payload",
            &folder,
        ];
        // What stays is enough for a second time.
        for _ in 0..2 {
            let told = boot(site, &state, &arguments)?;
            assert_eq!(told.code, 5, "{}", told.text);
            told.says(&MOMENTS)?;
        }
        Ok(())
    });
}

/// With what is prepared, in the place where the integrations have it: the node calls.
#[test]
fn image_that_calls_gets_its_payload() {
    story(|site| {
        let (state, image) = (site.dir().join("state"), site.dir().join("image"));
        boot(site, &state, &["--prepare"])?;
        let kernel = Kernel::unpacked()?;
        let mut initramfs = Initramfs::minimal(&kernel)?;
        initramfs.early_boot(&programs()?.join(Build::Static.program()))?;
        for file in fs::read_dir(state.join("keyhalf"))?.flatten() {
            let path = format!("/etc/keyhalf/{}", file.file_name().display());
            initramfs.file(&path, 0o644, fs::read(file.path())?)?;
        }
        initramfs.file("/etc/guest/reports", 0o644, Vec::new())?;
        fs::write(&image, initramfs.archive()?)?;
        let folder = site.dir().join("payload");
        payload::documented(&folder)?;
        let [kernel, image, folder] =
            [kernel.image(), &image, &folder].map(|path| path.display().to_string());
        let arguments = ["--kernel", &kernel, "--initrd", &image];
        let told = boot(
            site,
            &state,
            &[&arguments[..], &["--payload", &folder]].concat(),
        )?;
        assert_eq!(told.code, 0, "{}", told.text);
        told.says(&["the node registers", "the payload is deposited for it"])?;
        told.says(&DELIVERED)?;
        // It is known, and what was deposited is for each of its boots.
        let told = boot(site, &state, &arguments)?;
        assert_eq!(told.code, 0, "{}", told.text);
        told.says(&DELIVERED)?;
        Ok(())
    });
}

#[test]
fn image_without_an_agent_is_told_so() {
    story(|site| {
        let (state, image) = (site.dir().join("state"), site.dir().join("image"));
        let kernel = Kernel::unpacked()?;
        let mut initramfs = Initramfs::minimal(&kernel)?;
        let off = b"#!/bin/sh\npoweroff -f\n".to_vec();
        initramfs.file("/etc/guest/agent", 0o755, off)?;
        fs::write(&image, initramfs.archive()?)?;
        let [kernel, image] = [kernel.image(), &image].map(|path| path.display().to_string());
        let told = boot(site, &state, &["--kernel", &kernel, "--initrd", &image])?;
        assert_eq!(told.code, 0, "{}", told.text);
        told.says(&[
            "nothing in it asks for a secret",
            "./hw-tests/boot --prepare",
        ])?;
        Ok(())
    });
}

#[test]
fn guest_that_goes_on_ends_at_the_limit() {
    story(|site| {
        let (state, image) = (site.dir().join("state"), site.dir().join("image"));
        let kernel = Kernel::unpacked()?;
        fs::write(&image, Initramfs::minimal(&kernel)?.archive()?)?;
        let [kernel, image] = [kernel.image(), &image].map(|path| path.display().to_string());
        let arguments = ["--kernel", &kernel, "--initrd", &image, "--limit", "1"];
        let told = boot(site, &state, &arguments)?;
        assert_eq!(told.code, 16, "{}", told.text);
        Ok(())
    });
}

#[test]
fn wrong_command_lines_are_told_so() {
    story(|site| {
        for (arguments, said) in [
            (&["--kernel", "/dev/null"][..], "--initrd FILE is missing"),
            (&["--initrd", "/dev/null"], "--kernel FILE is missing"),
            (
                &["--kernel", "/nowhere", "--initrd", "/dev/null"],
                "no /nowhere",
            ),
            (&["--prepare", "--limit", "soon"], "takes a number"),
            (&["--prepare", "--limit"], "needs a value"),
            (&["--prepare", "--shiny"], "unknown option --shiny"),
        ] {
            let told = boot(site, &site.dir().join("state"), arguments)?;
            assert_eq!(told.code, 2, "{arguments:?}: {}", told.text);
            told.says(&[said])?;
        }
        Ok(())
    });
}

/// An agent as the help has it, in a guest that says so when the payload's script has run, and ends.
const AGENT: &str = "#!/bin/sh
keyhalf-agent serve --ip 10.0.2.15 --contact-ip 127.0.0.2 --registrar-ip 192.0.2.1 \\
    --trusted-client-ca /etc/cacert.crt &
while [ ! -e /root/.ssh/payload_id_rsa ]; do sleep 1; done
sleep 2
goodbye 5
";

/// What the summary has to say of that.
const MOMENTS: [&str; 6] = [
    "the kernel runs",
    "the kernel has found the TPM",
    "the node registers",
    "it has the verifier's half of the key",
    "the payload is unpacked",
    "the guest reported 5",
];

/// And of an image that calls.
const DELIVERED: [&str; 4] = [
    "half of the key is released to it",
    "the payload is unpacked",
    "the node has told how the payload's script ended",
    "this boot is capped",
];

/// Runs the program in a network of its own, as its script does: its addresses are always the same.
fn boot(site: &Site, state: &Path, arguments: &[&str]) -> Result<Told> {
    let mut command = Command::new("unshare");
    let up_and_run = r#"ip link set lo up && exec "$@""#;
    command.args(["--net", "sh", "-c", up_and_run, "sh"]);
    command.arg(programs()?.join("boot"));
    // Before the story's arguments, whose last one may lack its value.
    command.arg("--state").arg(state).args(arguments);
    let log = site.log("boot");
    let status = Program::start(command, log.clone())?.wait(LIMIT)?;
    log.wait_until_closed()?;
    Ok(Told {
        code: status.code().unwrap_or(-1),
        text: log.text(),
        took: Duration::ZERO,
    })
}

/// Its own limit is shorter.
const LIMIT: Duration = Duration::from_secs(180);
