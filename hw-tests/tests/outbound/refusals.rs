//! A verifier that lies: each lie is refused by the agent, by name, and leaves nothing.

use hw_tests::Result;
use hw_tests::raw::{Client, Reply};
use hw_tests::servers::{Servers, VERIFIER_PORT, Verifier, administrator};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tap::Wiretap;
use hw_tests::tenant::Tenant;

use crate::edge::{
    deposit, documented, exit, has_nothing, install, reboot, register, registered, rotate,
};
use crate::release::change_text;

type Lie = Box<dyn FnMut(&str, Reply) -> Reply + Send>;

#[test]
fn each_lie_of_a_verifier_is_refused_by_name() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let mut node = install(&tap, &tenant, Swtpm::fresh(site)?)?;
        let mut neighbour = install(&verifier, &tenant, Swtpm::fresh(site)?)?;
        let (uuid, other) = (register(&mut node)?, register(&mut neighbour)?);
        documented(&tenant)?;
        deposit(&tenant, &uuid, &[])?;
        let old = said_of_payload(&verifier, &uuid)?;
        deposit(&tenant, &other, &[])?;
        let neighbours = said_of_payload(&verifier, &other)?;
        rotate(&tenant, &uuid, &[])?;

        let lies: Vec<(&str, &str, Lie)> = vec![
            (
                "forged signature",
                "signature",
                of_payload(|truth| change_text(truth, "signature", |bytes| bytes[20] ^= 1)),
            ),
            (
                "another signer",
                "sign",
                of_payload(|truth| {
                    change_text(truth, "signer", |bytes| {
                        let last = bytes.len() - 1;
                        bytes[last] ^= 1;
                    })
                }),
            ),
            (
                "another script",
                "signature",
                of_payload(|truth| {
                    change_text(truth, "manifest", |bytes| {
                        let text =
                            String::from_utf8_lossy(bytes).replace("autorun.sh", "another.sh");
                        *bytes = text.into_bytes();
                    })
                }),
            ),
            (
                "another U",
                "half from the tenant",
                of_payload(|truth| change_text(truth, "u_blob", |bytes| bytes[10] ^= 1)),
            ),
            ("one of another node", "node", {
                let neighbours = neighbours.clone();
                of_payload(move |truth| replaced(truth, &neighbours))
            }),
            (
                "other sealed bytes",
                "sealed bytes",
                Box::new(|path, truth| {
                    if !path.ends_with("/sealed") {
                        return truth;
                    }
                    let mut bytes = truth.bytes.clone();
                    bytes[100] ^= 1;
                    truth.with_bytes(bytes)
                }),
            ),
            (
                "another V",
                "half",
                Box::new(|path, truth| {
                    if path.ends_with("/release") {
                        change_text(truth, "v", |bytes| bytes[40] ^= 1)
                    } else {
                        truth
                    }
                }),
            ),
            (
                "a key that anybody could share",
                "half",
                Box::new(|path, truth| {
                    if path.ends_with("/release") {
                        change_text(truth, "v", |bytes| bytes[..32].fill(0))
                    } else {
                        truth
                    }
                }),
            ),
        ];
        for (name, word, lie) in lies {
            reboot(&node)?;
            tap.relay().now_tells(lie);
            let told = node.run(&["--deadline", "5s"])?;
            assert_eq!(told.code, exit::BAD_PAYLOAD, "{name}: {}", told.text);
            assert!(told.text.contains(word), "{name}: {}", told.text);
            assert!(has_nothing(&node), "{name}");
        }

        // An older deposit of the same node: its manifest is genuine, so without a floor only the release stands in the way.
        reboot(&node)?;
        let older = old.clone();
        tap.relay()
            .now_tells(of_payload(move |truth| replaced(truth, &older)));
        let told = node.run(&["--deadline", "5s"])?;
        assert_ne!(told.code, exit::DONE, "{}", told.text);
        assert!(has_nothing(&node));
        Ok(())
    });
}

#[test]
fn older_payload_is_refused_by_the_floor() {
    story(|site| {
        let verifier = Verifier::start(site)?;
        let tap = Wiretap::before(&verifier)?;
        let tenant = Tenant::beside(&verifier)?;
        let (mut node, uuid) = registered(&tap, &tenant)?;
        documented(&tenant)?;
        let index = "0x01800042";
        let mut enrol = node.machine().command("keyhalf-agent");
        let tcti = node.tpm().tcti();
        let counter = enrol.args(["floor", "--create", "--floor-index", index, "--tcti", &tcti]);
        let counter = counter.output()?;
        assert!(counter.status.success(), "{counter:?}");
        let floor = String::from_utf8(counter.stdout)?.trim().to_owned();
        deposit(&tenant, &uuid, &["--floor", &floor])?;
        let old = said_of_payload(&verifier, &uuid)?;
        let told = node.run(&["--floor-index", index])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);
        rotate(&tenant, &uuid, &[])?;
        reboot(&node)?;
        let told = node.run(&["--floor-index", index])?;
        assert_eq!(told.code, exit::DONE, "{}", told.text);

        std::fs::remove_dir_all(node.machine().root().join(".ssh"))?;
        reboot(&node)?;
        tap.relay()
            .now_tells(of_payload(move |truth| replaced(truth, &old)));
        let told = node.run(&["--floor-index", index, "--deadline", "5s"])?;
        assert_eq!(told.code, exit::BAD_PAYLOAD, "{}", told.text);
        told.says(&["floor"])?;
        assert!(has_nothing(&node));
        Ok(())
    });
}

/// What the verifier keeps of a node's deposit, as an agent would be told it.
fn said_of_payload(verifier: &Verifier<'_>, uuid: &str) -> Result<Reply> {
    let machine = verifier.machine();
    let client = Client::tls(
        Servers::verifier(verifier),
        VERIFIER_PORT,
        administrator(machine)?,
    )?;
    let reply = client.get(&format!("/v3.0/agents/{uuid}/payload"))?;
    assert_eq!(reply.status, 200, "{}", reply.body);
    Ok(reply)
}

/// A lie about the answer to `GET .../payload`.
fn of_payload(mut change: impl FnMut(Reply) -> Reply + Send + 'static) -> Lie {
    Box::new(move |path, truth| {
        if path.ends_with("/payload") && truth.status == 200 {
            change(truth)
        } else {
            truth
        }
    })
}

/// The deposit that a tenant was told of, in place of the one that an agent is told of.
fn replaced(truth: Reply, other: &Reply) -> Reply {
    let (Ok(mut body), Ok(other)) = (truth.json(), other.json()) else {
        return truth;
    };
    let deposit = &other["deposit"];
    for member in ["payload_id", "manifest", "signature", "signer"] {
        body[member] = deposit[member].clone();
    }
    truth.with_bytes(body.to_string().into_bytes())
}
