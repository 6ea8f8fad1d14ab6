//! The last good copy: a node whose link is lost opens what it had, and nobody else does, nor later, nor elsewhere.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hw_tests::Result;
use hw_tests::node::Node;
use hw_tests::payload::SECRET;
use hw_tests::servers::{VERIFIER_PORT, Verifier};
use hw_tests::site::{Site, fresh_address, story};
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

use crate::edge::{
    delivered, deposit, documented, exit, has_nothing, install, reboot, register, registered,
    rotate, signer,
};

#[test]
fn lost_link_opens_the_last_good_copy() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut kept = Kept::by(&verifier, &tenant, site, &["--last-good", "1d"])?;
        let copy = fs::symlink_metadata(kept.copy())?;
        assert_eq!((copy.mode() & 0o7777, copy.nlink()), (0o600, 1));
        assert!(copy.is_file() && copy.len() < 16 * 1024, "{}", copy.len());
        assert_eq!(holding(&kept.node.machine().work(), SECRET)?, NONE);
        assert_eq!(holding(&kept.node.machine().keylime(), SECRET)?, NONE);

        verifier.kill()?;
        for boot in 0..2 {
            kept.boots()?;
            let told = kept.run(&["--deadline", "4s"])?;
            assert_eq!(told.code, exit::DONE, "{boot}: {}", told.text);
            told.says(&["last good copy is used, kept", "no receipt can be sent"])?;
            assert_eq!(delivered(&kept.node)?, SECRET);
            assert!(told.took < Duration::from_secs(4), "{:?}", told.took);
        }
        // This boot is capped by the copy as by a release.
        kept.forgets()?;
        let told = kept.run(&["--deadline", "2s"])?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used: this boot is capped"])?;
        assert!(has_nothing(&kept.node));

        // The link is back: in this boot it is too late, in the next one all is as before.
        verifier.start_again()?;
        let told = kept.run(&["--deadline", "5s"])?;
        assert_eq!(told.code, exit::REFUSED, "{}", told.text);
        kept.boots()?;
        assert_eq!(kept.run(&[])?.code, exit::DONE);
        Ok(())
    });
}

#[test]
fn last_good_copy_is_off_unless_both_allow_it() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        // The tenant says nothing of it.
        let mut kept = Kept::by(&verifier, &tenant, site, &[])?;
        assert!(!kept.copy().exists());
        // The node says nothing of it; what was kept before goes.
        rotate(&tenant, &kept.uuid, &["--last-good", "1d"])?;
        kept.boots()?;
        assert_eq!(kept.run(&[])?.code, exit::DONE);
        assert!(kept.copy().exists());
        let spool = kept.spool.to_str().ok_or("a path that is no text")?;
        let unasked = ["--spool-dir", spool];
        reboot(&kept.node)?;
        assert_eq!(kept.node.run(&unasked)?.code, exit::DONE);
        assert!(!kept.copy().exists());
        verifier.kill()?;
        kept.boots()?;
        for node in [&unasked[..], &[&unasked[..], &["--last-good"]].concat()] {
            let told = kept.node.run(&[node, &["--deadline", "2s"]].concat())?;
            assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
            assert!(has_nothing(&kept.node));
        }
        Ok(())
    });
}

#[test]
fn last_good_copy_is_for_this_system_on_this_machine() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut kept = Kept::by(&verifier, &tenant, site, &["--last-good", "1d"])?;
        let signer = signer(&tenant)?;
        let signer = signer.to_str().ok_or("a path that is no text")?;
        let named = ["--tenant-signer", signer, "--uuid", &kept.uuid];
        let mut other = Node::calling(&verifier, Swtpm::fresh(site)?, "provision", &named)?;
        verifier.kill()?;

        kept.boots()?;
        kept.node.tpm().extend(0, 7)?;
        let told = kept.run(&["--deadline", "2s"])?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used: the TPM gives no key"])?;
        assert!(has_nothing(&kept.node), "another system");

        // Its whole disk, at another TPM.
        let spool = other.machine().work().join("spool");
        fs::create_dir(&spool)?;
        for file in fs::read_dir(&kept.spool)? {
            let file = file?;
            fs::copy(file.path(), spool.join(file.file_name()))?;
        }
        let spool = spool.to_str().ok_or("a path that is no text")?;
        let options = ["--spool-dir", spool, "--last-good", "--deadline", "2s"];
        let told = other.run(&options)?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used", "another endorsement key"])?;
        assert!(has_nothing(&other), "another TPM");

        // Under the system that it was kept by, it is still good.
        kept.boots()?;
        let told = kept.run(&["--deadline", "4s"])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn changed_or_old_copy_is_refused() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut kept = Kept::by(&verifier, &tenant, site, &["--last-good", "5s"])?;
        let nobody = format!("https://{}:{VERIFIER_PORT}", fresh_address());
        let lost = ["--verifier-url", &nobody, "--deadline", "4s"];
        std::thread::sleep(Duration::from_secs(6));
        kept.boots()?;
        let told = kept.run(&lost)?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used: it is too old"])?;
        assert!(has_nothing(&kept.node));

        rotate(&tenant, &kept.uuid, &["--last-good", "1d"])?;
        kept.boots()?;
        assert_eq!(kept.run(&[])?.code, exit::DONE);
        kept.boots()?;
        let good = fs::read(kept.copy())?;
        // The time of keeping comes after twenty bytes; a second less would go unnoticed by the clock.
        let mut changed = good.clone();
        changed[27] = changed[27].wrapping_sub(1);
        fs::write(kept.copy(), changed)?;
        let told = kept.run(&lost)?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used"])?;
        assert!(has_nothing(&kept.node));
        fs::write(kept.copy(), good)?;
        let told = kept.run(&lost)?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn copy_of_an_older_payload_is_refused_by_the_floor() {
    story(|site| {
        let mut verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let (node, uuid) = registered(&verifier, &tenant)?;
        documented(&tenant)?;
        let index = "0x01800042";
        let mut enrol = node.machine().command("keyhalf-agent");
        let tcti = node.tpm().tcti();
        let counter = enrol.args(["floor", "--create", "--floor-index", index, "--tcti", &tcti]);
        let floor = String::from_utf8(counter.output()?.stdout)?
            .trim()
            .to_owned();
        deposit(&tenant, &uuid, &["--floor", &floor, "--last-good", "1d"])?;
        let mut kept = Kept::at(node, uuid);
        let options = ["--floor-index", index];
        let told = kept.run(&options)?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        let old = kept.node.machine().work().join("old");
        copy_all(&kept.spool, &old)?;
        rotate(&tenant, &kept.uuid, &[])?;
        kept.boots()?;
        let told = kept.run(&options)?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);

        verifier.kill()?;
        kept.boots()?;
        let newer = kept.node.machine().work().join("newer");
        copy_all(&kept.spool, &newer)?;
        fs::remove_dir_all(&kept.spool)?;
        copy_all(&old, &kept.spool)?;
        let offline = [&options[..], &["--deadline", "2s"]].concat();
        let told = kept.run(&offline)?;
        assert_eq!(told.code, exit::NO_NETWORK, "{}", told.text);
        told.says(&["last good copy is not used", "floor"])?;
        assert!(has_nothing(&kept.node));
        assert!(!kept.copy().exists(), "it never serves again");
        fs::remove_dir_all(&kept.spool)?;
        copy_all(&newer, &kept.spool)?;
        let told = kept.run(&[&options[..], &["--deadline", "4s"]].concat())?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(())
    });
}

#[test]
fn copy_goes_with_the_deposit() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut kept = Kept::by(&verifier, &tenant, site, &["--last-good", "1d"])?;
        tenant.does(&["-c", "delete", "-u", &kept.uuid])?;
        kept.boots()?;
        let told = kept.run(&["--deadline", "2s"])?;
        assert_eq!(told.code, exit::NOT_ACCEPTED, "{}", told.text);
        assert!(!kept.copy().exists(), "{}", told.text);
        assert!(has_nothing(&kept.node));
        Ok(())
    });
}

/// A node that had its payload once, with a spool and leave to keep a copy.
struct Kept<'site> {
    node: Node<'site>,
    uuid: String,
    spool: PathBuf,
}

impl<'site> Kept<'site> {
    fn by(
        verifier: &Verifier<'site>,
        tenant: &Tenant<'_>,
        site: &Site,
        terms: &[&str],
    ) -> Result<Self> {
        let mut node = install(verifier, tenant, Swtpm::fresh(site)?)?;
        let uuid = register(&mut node)?;
        documented(tenant)?;
        deposit(tenant, &uuid, terms)?;
        let mut kept = Self::at(node, uuid);
        let told = kept.run(&[])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        Ok(kept)
    }

    fn at(node: Node<'site>, uuid: String) -> Self {
        let spool = node.machine().work().join("spool");
        Self { node, uuid, spool }
    }

    fn copy(&self) -> PathBuf {
        self.spool.join(format!("{}.last-good", self.uuid))
    }

    fn run(&mut self, more: &[&str]) -> Result<hw_tests::tenant::Told> {
        let spool = self.spool.to_str().ok_or("a path that is no text")?;
        let usual = ["--spool-dir", spool, "--last-good"];
        self.node.run(&[&usual[..], more].concat())
    }

    /// The next boot, with nothing of the payload anywhere.
    fn boots(&self) -> Result {
        self.forgets()?;
        self.node.tpm().reboot()
    }

    fn forgets(&self) -> Result {
        let _from_before = fs::remove_dir_all(self.node.machine().root().join(".ssh"));
        self.node.machine().forget()
    }
}

fn copy_all(from: &Path, to: &Path) -> Result {
    fs::create_dir(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Files below a directory that hold a text.
fn holding(directory: &Path, text: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                let bytes = fs::read(&path)?;
                if bytes
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
                {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

const NONE: Vec<PathBuf> = Vec::new();
