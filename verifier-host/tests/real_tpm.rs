//! What was written from the TPM's specification, tried on a TPM that others wrote: swtpm, through tpm2-tools.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_core::wire::quote::{HashAlg, MAX_DUMP_BYTES, PcrDump, PcrMask, QuoteWriter};
use verifier_host::evidence::certify::{self, ProofError};
use verifier_host::evidence::credential::Credential;
use verifier_host::evidence::public::{AkPublic, EkPublic};
use verifier_host::evidence::pushed::{self, Asked, Parts};
use verifier_host::evidence::quote::{Challenge, check};

/// A fresh TPM, and a directory for its files; gone when it is dropped.
struct Tpm {
    dir: tempfile::TempDir,
    process: Child,
}

impl Tpm {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", at(""))])
            .args(["--server", &format!("type=unixio,path={}", at("tpm"))])
            .args(["--ctrl", &format!("type=unixio,path={}", at("tpm.ctrl"))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm must be installed");
        let tpm = Self { dir, process };
        let limit = Instant::now() + Duration::from_secs(20);
        while !tpm.path("tpm.ctrl").exists() {
            assert!(Instant::now() < limit, "swtpm doesn't come up");
            std::thread::yield_now();
        }
        tpm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a program of tpm2-tools in the TPM's directory, and clears its slots after it.
    fn run(&self, line: &str) {
        self.tool(line);
        self.tool("tpm2_flushcontext --transient-object");
    }

    fn tool(&self, line: &str) {
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:path={}", self.path("tpm").display()),
            )
            .current_dir(self.dir.path())
            .output()
            .expect("tpm2-tools must be installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Kinds of EK and AK, as tpm2-tools name them.
const KINDS: [(&str, &str); 4] = [
    ("rsa", "rsa -s rsassa"),
    ("rsa", "ecc -s ecdsa"),
    ("ecc", "rsa -s rsassa"),
    ("ecc", "ecc -s ecdsa"),
];

fn make_keys(tpm: &Tpm, (ek, ak): (&str, &str)) -> (EkPublic, AkPublic) {
    tpm.run(&format!("tpm2_createek -G {ek} -c ek.ctx -u ek.pub"));
    tpm.run(&format!(
        "tpm2_createak -C ek.ctx -c ak.ctx -G {ak} -g sha256 -u ak.pub -n ak.name"
    ));
    let ek = EkPublic::parse(&tpm.read("ek.pub")).unwrap();
    let ak = AkPublic::parse(&tpm.read("ak.pub")).unwrap();
    assert_eq!(ak.name().as_bytes(), tpm.read("ak.name"));
    (ek, ak)
}

#[test]
fn credential_opens_in_a_tpm() {
    for kinds in KINDS {
        let tpm = Tpm::start();
        let (ek, ak) = make_keys(&tpm, kinds);
        let secret = b"0123456789abcdefghijklmnopqrstuv";
        let credential = Credential::make(&ek, ak.name(), secret).unwrap();
        std::fs::write(tpm.path("blob"), credential.registrar_blob()).unwrap();

        tpm.tool("tpm2_startauthsession --policy-session -S session");
        tpm.tool("tpm2_policysecret -S session -c endorsement");
        tpm.tool(
            "tpm2_activatecredential -c ak.ctx -C ek.ctx -i blob -o opened -P session:session",
        );
        assert_eq!(tpm.read("opened"), secret, "{kinds:?}");
    }
}

#[test]
fn quote_of_a_tpm_holds() {
    const PEM: &str = "what stands for the transport key\n";
    for kinds in KINDS {
        let tpm = Tpm::start();
        let (_, ak) = make_keys(&tpm, kinds);
        let measured = HashAlg::Sha256.digest([PEM.as_bytes()]);
        let hex = agent_core::wire::text::Hex(&measured);
        tpm.run(&format!("tpm2_pcrextend 16:sha256={hex}"));
        let nonce = agent_core::wire::text::Hex(b"nonce");
        tpm.run(&format!(
            "tpm2_quote -c ak.ctx -l sha256:0,7,16,23 -q {nonce} -m attest -s signature -o pcrs -F values"
        ));
        let text = quote_text(&tpm, "pcrs");
        let challenge = Challenge {
            nonce: "nonce",
            bank: HashAlg::Sha256,
            pcrs: PcrMask::EMPTY.with(0).with(7).with(23),
            transport_pem: PEM,
            previous: None,
        };
        let quoted = check(&ak, &text, &challenge).unwrap();
        assert_eq!(quoted.pcrs.value(0), Some(&[0; 32][..]), "{kinds:?}");

        let later = Challenge {
            previous: Some(quoted.clock),
            ..challenge
        };
        check(&ak, &text, &later).unwrap();
        let other = Challenge {
            nonce: "other",
            ..challenge
        };
        check(&ak, &text, &other).unwrap_err();
    }
}

#[test]
fn quote_of_a_tpm_holds_when_it_is_brought() {
    for kinds in KINDS {
        let tpm = Tpm::start();
        let (_, ak) = make_keys(&tpm, kinds);
        tpm.run("tpm2_quote -c ak.ctx -l sha256:0,7,16,23 -q c0ffee -m attest -s signature -o pcrs -F values");
        let dump = dump(&tpm, "pcrs");
        let (message, signature) = (tpm.read("attest"), tpm.read("signature"));
        let mut room = [0; MAX_DUMP_BYTES];
        let parts = Parts {
            message: &message,
            signature: &signature,
            subject_data: dump.encode(&mut room),
        };
        let asked = Asked {
            challenge: &[0xC0, 0xFF, 0xEE],
            bank: HashAlg::Sha256,
            pcrs: PcrMask::EMPTY.with(7).with(16),
            previous: None,
        };
        let pushed = pushed::check(&ak, parts, &asked).unwrap();
        assert_eq!(pushed.pcrs, dump, "{kinds:?}");
        let proof = certify::check(&ak, &message, &signature, asked.challenge);
        assert_eq!(proof, Err(ProofError::Type { got: 0x8018 }), "{kinds:?}");
        let other = Asked {
            challenge: b"other",
            ..asked
        };
        pushed::check(&ak, parts, &other).unwrap_err();
    }
}

#[test]
fn key_certifies_itself_in_a_tpm() {
    for kinds in KINDS {
        let tpm = Tpm::start();
        let (_, ak) = make_keys(&tpm, kinds);
        tpm.run("tpm2_certify -c ak.ctx -C ak.ctx -g sha256 -o attest -s signature");
        let (message, signature) = (tpm.read("attest"), tpm.read("signature"));
        // tpm2-tools writes its own qualifying data: it stands where the challenge would.
        let size = usize::from(u16::from_be_bytes([message[6], message[7]]));
        let qualifying = &message[8 + size..];
        let length = usize::from(u16::from_be_bytes([qualifying[0], qualifying[1]]));
        let challenge = &qualifying[2..2 + length];
        certify::check(&ak, &message, &signature, challenge).unwrap();
        let other = certify::check(&ak, &message, &signature, b"other");
        assert_eq!(other, Err(ProofError::Challenge), "{kinds:?}");
    }
}

/// The text of the quote whose parts tpm2_quote wrote; of the values it wrote all PCRs' digests, one after the other.
fn quote_text(tpm: &Tpm, values: &str) -> String {
    QuoteWriter {
        attest: &tpm.read("attest"),
        signature: &tpm.read("signature"),
        dump: &dump(tpm, values),
    }
    .to_string()
}

/// The values of PCRs 0, 7, 16 and 23 as tpm2_quote wrote them.
fn dump(tpm: &Tpm, values: &str) -> PcrDump {
    let mut pcrs = agent_core::wire::quote::PcrValues::new();
    for (pcr, value) in [0, 7, 16, 23].into_iter().zip(tpm.read(values).chunks(32)) {
        let value = agent_core::wire::quote::Digest::from_slice(value).unwrap();
        pcrs.push((pcr, value)).unwrap();
    }
    PcrDump::new(HashAlg::Sha256, pcrs).unwrap()
}

#[test]
fn unrestricted_ak_of_a_tpm_is_refused() {
    let tpm = Tpm::start();
    tpm.run("tpm2_createprimary -C e -G rsa -c parent.ctx");
    tpm.run(
        "tpm2_create -C parent.ctx -G ecc:ecdsa-sha256 -a fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign \
         -u key.pub -r key.priv",
    );
    let error = AkPublic::parse(&tpm.read("key.pub")).unwrap_err();
    assert!(error.to_string().contains("restricted"), "{error}");
}
