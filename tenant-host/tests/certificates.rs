//! What `docs/certificates.md` says, run: each command after a `$`, and what it is to print.
//!
//! nginx, openssl, curl and ssh-keygen must be there: without one of them the test fails.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const DOC: &str = include_str!("../docs/certificates.md");

/// The port in the document's example.
const PORT: &str = "8443";

/// How long a command may take to print what it is to print: nginx reloads on its own time.
const LIMIT: Duration = Duration::from_secs(20);

/// A block of the document between fences.
struct Block {
    kind: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut parts = DOC.split("```").skip(1);
    let mut blocks = Vec::new();
    while let Some(inside) = parts.next() {
        let (kind, text) = inside.split_once('\n').unwrap();
        blocks.push(Block {
            kind: kind.to_owned(),
            text: text.to_owned(),
        });
        parts.next();
    }
    blocks
}

/// A directory in which the document's commands are run.
struct Place {
    root: tempfile::TempDir,
    port: String,
}

impl Place {
    fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        Self {
            root: tempfile::tempdir().unwrap(),
            port,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn here(&self, text: &str) -> String {
        text.replace(PORT, &self.port)
    }

    fn run(&self, command: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_keyhalf-tenant"));
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}:/usr/sbin", program.parent().unwrap().display());
        Command::new("sh")
            .args(["-c", &self.here(command)])
            .current_dir(self.root.path())
            .env("PATH", path)
            .env("KEYLIME_DIR", self.path("keylime"))
            .env_remove("KEYHALF_CA_PASSPHRASE")
            .output()
            .unwrap()
    }

    /// Runs a command until it prints all of these; once, and to a good end, if it is to print nothing.
    fn expect(&self, command: &str, wanted: &[&str]) {
        let start = Instant::now();
        loop {
            let output = self.run(command);
            let printed = [output.stdout.as_slice(), &output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            let is_done = match wanted {
                [] => output.status.success(),
                _ => wanted.iter().all(|line| printed.contains(line)),
            };
            if is_done {
                return;
            }
            let asks_nginx = command.starts_with("curl");
            if !asks_nginx || start.elapsed() > LIMIT {
                panic!(
                    "$ {command}\n{printed}{}\nwanted: {wanted:#?}",
                    output.status
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn transcript(&self, text: &str) {
        let mut command: Option<&str> = None;
        let mut wanted = Vec::new();
        for line in text.lines().map(str::trim).chain(["$ true"]) {
            match line.strip_prefix("$ ") {
                Some(next) => {
                    if let Some(command) = command.replace(next) {
                        self.expect(command, &wanted);
                    }
                    wanted.clear();
                }
                None => wanted.push(line),
            }
        }
    }

    /// The document's server in a configuration that needs no root.
    fn write_nginx(&self, server: &str) {
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path nginx-{kind};\n"))
            .collect();
        let text = format!(
            "pid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\n    access_log off;\n{temporary}{}\n}}\n",
            self.here(server)
        );
        std::fs::write(self.path("nginx.conf"), text).unwrap();
    }

    /// What the registrar would hand out while a key is delegated: a list by that key, of the CA's own index.
    fn write_delegated_list(&self) {
        std::fs::write(self.path("openssl.cnf"), OPENSSL).unwrap();
        std::fs::write(self.path("number"), "20\n").unwrap();
        self.expect("keyhalf-tenant ca delegate-crl -d myca --out signer", &[]);
        self.expect(
            "openssl ca -gencrl -config openssl.cnf -keyfile signer/CrlSigner-private.pem -cert signer/CrlSigner-cert.crt \
             -out delegated.tmp",
            &[],
        );
        self.expect(
            "openssl crl -in delegated.tmp -outform DER -out delegated.der",
            &[],
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.path("nginx.pid").exists() {
            self.run("nginx -p . -c nginx.conf -s stop");
        }
    }
}

const OPENSSL: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = myca/index.txt\ncrlnumber = number\ndefault_md = sha256\n\
    default_crl_days = 30\ncrl_extensions = list\n[list]\nauthorityKeyIdentifier = keyid\n";

#[test]
fn the_documents_commands_do_what_it_says() {
    for tool in ["nginx", "openssl", "curl", "ssh-keygen"] {
        let found = Place::new().run(&format!("command -v {tool}"));
        assert!(
            found.status.success(),
            "{tool} is missing: hw-tests/setup.sh installs it"
        );
    }
    let place = Place::new();
    let mut count = 0;
    for block in blocks() {
        match block.kind.as_str() {
            "console" => {
                if block.text.contains("delegated.der") {
                    place.write_delegated_list();
                }
                count += block.text.matches("$ ").count();
                place.transcript(&block.text);
            }
            "nginx" => place.write_nginx(&block.text),
            "action" => {
                std::fs::write(place.path("local_action_revoke_ssh"), &block.text).unwrap();
            }
            // What needs a verifier, a registrar or cron.
            "sh" => {}
            other => panic!("a block of the kind {other:?}"),
        }
    }
    assert!(count >= 40, "{count} commands");
    // A list by a delegate is none for nginx: it refuses everybody.
    place.expect(
        "keyhalf-tenant ca create -d myca tablet --usage client",
        &[],
    );
    let ask = "curl -s --cacert tls/ca.crt --cert myca/tablet-cert.crt --key myca/tablet-private.pem \
        --resolve www.example.org:8443:127.0.0.1 https://www.example.org:8443/";
    place.expect(ask, &["welcome"]);
    place.expect(
        "cp delegated.pem tls/ca.crl && nginx -p . -c nginx.conf -s reload",
        &[],
    );
    place.expect(ask, &["400 The SSL certificate error"]);
}

/// Two programs at once: every serial number once, and an index that has them all.
#[test]
fn two_programs_make_fifty_certificates() {
    const EACH: usize = 25;
    let place = Place::new();
    place.expect("keyhalf-tenant ca init -d myca --no-passphrase", &[]);
    std::thread::scope(|scope| {
        for program in ["a", "b"] {
            let place = &place;
            scope.spawn(move || {
                for number in 0..EACH {
                    let create = format!("keyhalf-tenant ca create -d myca {program}{number}");
                    place.expect(&create, &[]);
                }
            });
        }
    });
    let listed = place.run("keyhalf-tenant ca list -d myca --json").stdout;
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let serials: std::collections::BTreeSet<u64> = listed["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|certificate| certificate["serial"].as_u64().unwrap())
        .collect();
    // The notifier's is number 2.
    assert_eq!(serials, (2..=52).collect());
    let index = std::fs::read_to_string(place.path("myca/index.txt")).unwrap();
    assert_eq!(index.lines().count(), serials.len());
}
