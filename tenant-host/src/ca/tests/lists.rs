//! Certificates by kind, revocation, lists and whoever signs them.

use super::*;

fn wish(name: &str) -> LeafWish {
    LeafWish {
        name: name.to_owned(),
        ..LeafWish::default()
    }
}

fn on_list(der: &[u8]) -> Vec<(u64, &'static str)> {
    with_crl(der, |list| {
        list.iter_revoked_certificates()
            .map(|entry| {
                let serial = entry.serial().to_u64_digits()[0];
                let code = entry.reason_code().map_or(0, |(_, code)| code.0);
                (serial, Reason::of_number(code).name())
            })
            .collect()
    })
}

fn of(path: &Path, read: impl FnOnce(&X509Certificate<'_>)) {
    let pem = std::fs::read_to_string(path).unwrap();
    with_certificate(path, &pem, |certificate| {
        read(certificate);
        Ok(())
    })
    .unwrap();
}

#[test]
fn rsa_where_it_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let secret = passphrase("open sesame");
    for (bits, passphrase) in [(2048, None), (3072, secret.as_ref())] {
        let directory = root.path().join(bits.to_string());
        let key_type = KeyType::Rsa(bits);
        let ca = CaDirectory::create(&directory, key_type, passphrase, now()).unwrap();
        let leaf = LeafWish {
            key_type: KeyType::Rsa(2048),
            ..wish("web")
        };
        let made = ca.make(&leaf, passphrase, now()).unwrap();
        of(&directory.join("cacert.crt"), |certificate| {
            let key = certificate.public_key().parsed().unwrap();
            assert_eq!(key.key_size(), bits, "{bits}");
        });
        of(&made.certificate, |certificate| {
            assert_eq!(certificate.public_key().parsed().unwrap().key_size(), 2048);
            let usage = certificate.key_usage().unwrap().unwrap().value;
            assert!(usage.digital_signature() && usage.key_encipherment());
        });
        for name in ["ca-private.pem", "web-private.pem"] {
            let path = directory.join(name);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let text = std::fs::read_to_string(&path).unwrap();
            let is_clear = text.contains("BEGIN PRIVATE KEY");
            assert_eq!((mode, is_clear), (0o600, passphrase.is_none()), "{name}");
        }
        let uuid = Uuid::parse("node").unwrap();
        let identity = ca.identity(&uuid, passphrase, now()).unwrap();
        assert_eq!((made.issued.serial, identity.serial), (3, 4));
        ca.revoke("web", Reason::KEY_COMPROMISE, now()).unwrap();
        let list = ca.sign_list(0, None, now()).unwrap();
        assert_eq!(on_list(&list.der), [(3, "keyCompromise")]);
    }
}

#[test]
fn a_certificate_says_what_it_is_for() {
    let root = tempfile::tempdir().unwrap();
    let mut ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let point = ListPoint::of(None, "10.0.0.1");
    ca.point_to(&point).unwrap();
    let url = format!(
        "http://10.0.0.1:8890/crl.der?ca={}",
        &ca.files().anchor().unwrap()[..16]
    );
    type Row<'a> = (&'a str, Usage, &'a [&'a str], (bool, bool), usize);
    let rows: [Row<'_>; 5] = [
        ("bastion", Usage::Client, &[], (true, false), 0),
        ("web.example.org", Usage::Server, &[], (false, true), 1),
        ("10.0.0.9", Usage::Server, &[], (false, true), 1),
        ("odd_name", Usage::Both, &[], (true, true), 0),
        (
            "two",
            Usage::Both,
            &["a.example", "*.b.example"],
            (true, true),
            2,
        ),
    ];
    for (name, usage, dns, wanted, hosts) in rows {
        let leaf = LeafWish {
            usage,
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            life: Some(Duration::days(10)),
            ..wish(name)
        };
        let made = ca.make(&leaf, None, now()).unwrap();
        assert_eq!(made.list_url.as_deref(), Some(url.as_str()));
        of(&made.certificate, |certificate| {
            let extended = certificate.extended_key_usage().unwrap().unwrap().value;
            let sides = (extended.client_auth, extended.server_auth);
            assert_eq!(sides, wanted, "{name}");
            let names = certificate.subject_alternative_name().unwrap();
            let count = names.map_or(0, |names| names.value.general_names.len());
            assert_eq!(count, hosts, "{name}");
            let end = certificate.validity().not_after.to_datetime();
            assert!(end > now() + Duration::days(9) && end < now() + Duration::days(11));
            let start = certificate.validity().not_before.to_datetime();
            assert!(start < now() - Duration::hours(1), "{name}");
            let der = certificate.tbs_certificate.as_ref();
            let has_url = der.windows(url.len()).any(|part| part == url.as_bytes());
            assert!(has_url, "{name}");
        });
    }
    for dns in ["", "a b", "-a", "a..b", "*", "a.*.b", "ü.example"] {
        let leaf = LeafWish {
            dns: vec![dns.to_owned()],
            ..wish("bad")
        };
        let refused = ca.make(&leaf, None, now());
        assert!(matches!(refused, Err(CaError::BadHost { .. })), "{dns:?}");
    }
    let long = LeafWish {
        life: Some(Duration::days(36_500)),
        ..wish("long")
    };
    let made = ca.make(&long, None, now()).unwrap();
    assert_eq!(made.issued.not_after, ca.files().end().unwrap());
}

#[test]
fn what_is_revoked_is_on_every_list_until_it_has_ended() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let leaf = LeafWish {
        life: Some(Duration::days(10)),
        ..wish("short")
    };
    let short = ca.make(&leaf, None, now()).unwrap().issued.serial;
    let long = ca.make(&wish("long"), None, now()).unwrap().issued.serial;
    assert!(matches!(
        ca.revoke("nobody", Reason::UNSPECIFIED, now()),
        Err(CaError::Unknown { .. })
    ));
    for own in ["RevocationNotifier", "2"] {
        let refused = ca.revoke(own, Reason::UNSPECIFIED, now());
        assert!(
            matches!(refused, Err(CaError::OwnCertificate { .. })),
            "{own}"
        );
    }
    let marked = ca.revoke("short", Reason::KEY_COMPROMISE, now()).unwrap();
    assert_eq!(marked.len(), 1);
    let superseded = "superseded".parse().unwrap();
    let by_number = format!("0x{long:x}");
    assert_eq!(ca.revoke(&by_number, superseded, now()).unwrap().len(), 1);
    assert!(
        ca.revoke("short", superseded, now()).unwrap().is_empty(),
        "once is enough"
    );
    let both = [(short, "keyCompromise"), (long, "superseded")];
    // The list that a node gets next has them, though nobody asked for a new one.
    let list = ca.list(0, now()).unwrap();
    assert_eq!((on_list(&list.der), list.number), (both.to_vec(), 2));
    assert_eq!(ca.list(1, now()).unwrap().number, 2, "nothing new");
    assert_eq!(
        ca.list(40, now()).unwrap().number,
        41,
        "the verifier's was newer"
    );
    let month = ca.sign_list(0, None, now()).unwrap();
    assert!(month.next_update > now() + Duration::days(29));
    let week = ca.sign_list(0, Some(Duration::days(7)), now()).unwrap();
    assert!(week.next_update < now() + Duration::days(8));
    let after = |days| ca.sign_list(0, None, now() + Duration::days(days)).unwrap();
    assert_eq!(
        on_list(&after(12).der),
        both,
        "the first list after its end"
    );
    assert_eq!(on_list(&after(13).der), both[1..]);
}

#[test]
fn a_revoked_node_gets_another_certificate() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let first = ca.identity(&agent(), None, now()).unwrap();
    ca.revoke(agent().as_str(), Reason::KEY_COMPROMISE, now())
        .unwrap();
    let second = ca.identity(&agent(), None, now()).unwrap();
    assert_ne!(second.serial, first.serial);
    assert_eq!(on_list(&second.crl_der), [(first.serial, "keyCompromise")]);
    let again = ca.identity(&agent(), None, now()).unwrap();
    assert_eq!(again.serial, second.serial);
    ca.identity(&agent(), None, now() + Duration::days(350))
        .unwrap();
    // The name stands for both that haven't ended.
    let marked = ca.revoke(agent().as_str(), Reason::CESSATION, now());
    assert_eq!(marked.unwrap().len(), 2);
}

#[test]
fn a_directory_without_an_index_has_one_from_its_certificates_and_its_list() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let one = ca.make(&wish("one"), None, now()).unwrap().issued.serial;
    ca.make(&wish("two"), None, now()).unwrap();
    ca.revoke("one", Reason::KEY_COMPROMISE, now()).unwrap();
    ca.sign_list(0, None, now()).unwrap();
    let whole = Index::read(root.path()).unwrap();
    std::fs::remove_file(root.path().join("index.txt")).unwrap();
    std::fs::write(root.path().join("serial"), "3\n").unwrap();
    assert_eq!(ca.files().full_index().unwrap(), whole);
    let again = ca.make(&wish("one"), None, now()).unwrap();
    assert_eq!(
        again.issued.serial, 5,
        "no number twice, though the file went back"
    );
    assert!(Index::read(root.path()).unwrap().is_revoked(one));
    let list = ca.sign_list(0, None, now()).unwrap();
    assert_eq!(on_list(&list.der), [(one, "keyCompromise")]);
}

#[test]
fn a_log_revokes_what_was_given_out_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    ca.payload_signer(None, now()).unwrap();
    let known = ca.make(&wish("node"), None, now()).unwrap().issued.serial;
    std::fs::write(root.path().join("serial"), "10\n").unwrap();
    let at = index::whole_seconds(now());
    let entry = |serial| Issued {
        serial,
        name: "from the log".to_owned(),
        not_after: at,
        revoked: Some(Revoked {
            at,
            reason: Reason::KEY_COMPROMISE,
        }),
    };
    let all = [1, 2, 3, known, 7, 10, u64::MAX].map(entry);
    let marked: Vec<u64> = ca
        .import(&all)
        .unwrap()
        .iter()
        .map(|found| found.serial)
        .collect();
    assert_eq!(
        marked,
        [known, 7],
        "neither its own nor what was never given out"
    );
    assert!(ca.import(&all).unwrap().is_empty());
    let list = ca.sign_list(0, None, now()).unwrap();
    let wanted = [(known, "keyCompromise"), (7, "keyCompromise")];
    assert_eq!(on_list(&list.der), wanted);
}

#[test]
fn a_list_signer_signs_lists_alone() {
    let root = tempfile::tempdir().unwrap();
    let ca = CaDirectory::open_or_create(root.path(), None, now()).unwrap();
    let first = ca.list_signer(None, now()).unwrap();
    let second = ca.list_signer(Some(Duration::days(7)), now()).unwrap();
    with_certificate(Path::new("-"), &second.certificate_pem, |certificate| {
        assert_eq!(
            certificate.subject().as_raw(),
            certificate.issuer().as_raw()
        );
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.crl_sign() && !usage.key_cert_sign() && !usage.digital_signature());
        Ok(())
    })
    .unwrap();
    assert!(second.not_after < now() + Duration::days(8));
    let list = ca.sign_list(0, None, now()).unwrap();
    assert_eq!(on_list(&list.der), [(first.serial, "superseded")]);
    assert!(!root.path().join("CrlSigner-private.pem").exists());
    let out = tempfile::tempdir().unwrap();
    second.write(out.path()).unwrap();
    assert!(second.write(out.path()).is_err(), "nothing is replaced");
    let mode = std::fs::metadata(out.path().join("CrlSigner-private.pem")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    assert!(ca.end_list_signer(Reason::CESSATION, now()).unwrap());
    assert!(!ca.end_list_signer(Reason::CESSATION, now()).unwrap());
}

#[test]
fn what_is_handed_out_replaces_nothing() {
    let root = tempfile::tempdir().unwrap();
    let secret = passphrase("open sesame");
    let directory = root.path().join("ca");
    let ca = CaDirectory::open_or_create(&directory, secret.as_ref(), now()).unwrap();
    ca.make(&wish("web"), secret.as_ref(), now()).unwrap();
    drop(ca);
    let files = CaFiles::open(&directory).unwrap();
    let out = root.path().join("out");
    let export = |decrypt, replace| files.export("web", &out, decrypt, replace);
    let exported = export(None, false).unwrap();
    assert!(exported.is_encrypted);
    let chain = std::fs::read_to_string(&exported.certificate).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(matches!(export(None, false), Err(CaError::InTheWay { .. })));
    let clear = export(Some(secret.as_ref()), true).unwrap();
    let mode = std::fs::metadata(&clear.private_key).unwrap().permissions();
    assert_eq!((clear.is_encrypted, mode.mode() & 0o777), (false, 0o600));
    for name in ["nobody", "../ca/web", ""] {
        let refused = files.export(name, &out, None, true);
        assert!(matches!(refused, Err(CaError::Unknown { .. })), "{name}");
    }
}
