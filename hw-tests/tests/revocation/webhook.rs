//! An operator's own program that hears of each revocation.

use std::fs;

use hw_tests::machine::Machine;
use hw_tests::process::{LIMIT, Program, until};
use hw_tests::servers::Verifier;
use hw_tests::site::{fresh_address, story};
use hw_tests::tenant::Tenant;
use serde_json::Value;

use crate::peers::{added, entries, fail, noting, wire};

/// Answers 503 twice, then 200, and writes down what came and from whom; `openssl s_server` can't say who called.
const SERVER: &str = r#"
import http.server, json, ssl, sys
address, ca, cert, key, out = sys.argv[1:]
refusals = 2
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global refusals
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        if refusals:
            refusals -= 1
            status = 503
        else:
            with open(out, "a") as file:
                subject = dict(pair[0] for pair in self.connection.getpeercert()["subject"])
                file.write(json.dumps({"path": self.path, "who": subject, "body": json.loads(body)}) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
context.load_verify_locations(ca)
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.HTTPServer((address, 8443), Hook)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("webhook listening", flush=True)
server.serve_forever()
"#;

#[test]
fn webhook_hears_of_each_entry_in_order() {
    story(|site| {
        // A first start makes the certificates that the webhook's server has, too.
        let address = fresh_address();
        let url = format!("https://{address}:8443/hook");
        let options = [
            "--webhook-url",
            &url,
            "--enabled-revocation-notifications",
            "['agent', 'webhook']",
        ];
        let verifier = Verifier::start_with(site, &options)?;
        let tenant = Tenant::beside(&verifier)?;
        noting(&tenant)?;
        let nodes = [
            added(&verifier, &tenant, &[])?,
            added(&verifier, &tenant, &[])?,
        ];
        // It isn't there yet.
        fail(&nodes[0])?;
        until(LIMIT, "the entry", || {
            (entries(&verifier).ok()?.len() == 1).then_some(())
        })?;
        let (machine, _server) = serve(site, &verifier, address)?;
        fail(&nodes[1])?;
        let out = machine.work().join("heard");
        let lines = until(LIMIT, "two messages", || {
            let text = fs::read_to_string(&out).ok()?;
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            (lines.len() >= 2).then_some(lines)
        })?;
        let wanted: Vec<Value> = entries(&verifier)?.iter().map(wire).collect();
        let heard: Vec<Value> = lines.iter().map(|line| line["body"].clone()).collect();
        assert_eq!(heard, wanted);
        assert_eq!(lines[0]["path"], "/hook");
        assert_eq!(lines[0]["who"]["commonName"], "client");
        Ok(())
    });
}

fn serve(
    site: &hw_tests::site::Site,
    verifier: &Verifier<'_>,
    address: std::net::Ipv4Addr,
) -> hw_tests::Result<(Machine, Program)> {
    let machine = Machine::new(site, "webhook")?;
    let work = machine.work();
    fs::write(work.join("server.py"), SERVER)?;
    // A certificate of its own for this address, by the operator's CA.
    let front = verifier.machine().keylime().join("cv_ca");
    fs::copy(front.join("cacert.crt"), work.join("ca.crt"))?;
    issue(&front, &work, address)?;
    let mut command = machine.command("python3");
    command.args([
        "server.py",
        &address.to_string(),
        "ca.crt",
        "server.crt",
        "server.pem",
        "heard",
    ]);
    let program = Program::start(command, site.log("webhook"))?;
    program.wait_for("webhook listening")?;
    Ok((machine, program))
}

fn issue(
    ca: &std::path::Path,
    to: &std::path::Path,
    address: std::net::Ipv4Addr,
) -> hw_tests::Result {
    use rcgen::{CertificateParams, Issuer, KeyPair};
    let key = KeyPair::from_pem(&fs::read_to_string(ca.join("ca-private.pem"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(ca.join("cacert.crt"))?, key)?;
    let own = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![address.to_string()])?.signed_by(&own, &issuer)?;
    fs::write(to.join("server.crt"), leaf.pem())?;
    fs::write(to.join("server.pem"), own.serialize_pem())?;
    Ok(())
}
