//! What tests of servers and clients share: certificate authorities, and servers of this process.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_RSA_SHA256, date_time_ymd,
};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::http::{Listening, StopSwitch, stop_switch};
use crate::link::{Endpoint, Limits, Link};
use crate::pki::{Credentials, ServerTrust, client_config, server_config};

/// A runtime policy in JSON that has one file.
pub(crate) fn runtime_policy(path: &str) -> String {
    let policy = json!({
        "meta": { "version": 1, "generator": 0 },
        "release": 0,
        "digests": { path: ["ab".repeat(32)] },
        "excludes": [],
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    });
    policy.to_string()
}

/// A certificate authority that issues what a test asks for.
pub(crate) struct TestCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate to be issued. Without purposes it has neither extended key usage nor basic constraints: as Keylime's.
#[derive(Clone, Copy, Default)]
pub(crate) struct Leaf {
    pub(crate) names: &'static [&'static str],
    pub(crate) purposes: &'static [ExtendedKeyUsagePurpose],
    pub(crate) expired: bool,
    pub(crate) rsa: bool,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn trust(&self) -> ServerTrust {
        ServerTrust::Ca(vec![self.certificate()])
    }

    pub(crate) fn issue(&self, leaf: Leaf) -> Credentials {
        let (params, key) = draft(leaf);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials::new(vec![certificate.der().clone()], key.into())
    }

    /// The configuration of a server with a good certificate, whose clients are under this CA.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let credentials = self.issue(Leaf {
            names: &["127.0.0.1"],
            ..Leaf::default()
        });
        server_config(&credentials, &[self.certificate()]).unwrap()
    }
}

/// A certificate that nobody vouches for, as a node has.
pub(crate) fn self_signed(leaf: Leaf) -> (CertificateDer<'static>, Credentials) {
    let (params, key) = draft(leaf);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (
        certificate.clone(),
        Credentials::new(vec![certificate], key.into()),
    )
}

fn draft(leaf: Leaf) -> (CertificateParams, KeyPair) {
    let names: Vec<String> = leaf.names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = leaf.purposes.to_vec();
    if leaf.expired {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = if leaf.rsa {
        let key = rsa::PrivateKey::new(&mut rand::rngs::SysRng, 2048).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).unwrap()
    } else {
        KeyPair::generate().unwrap()
    };
    (params, key)
}

/// A server of this process; stops when it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _switch: StopSwitch,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(router: Router, tls: Option<Arc<ServerConfig>>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = Listening::bind(any, tls, router).await.unwrap();
        let address = listening.address().unwrap();
        let (switch, stop) = stop_switch();
        Self {
            address,
            _switch: switch,
            task: tokio::spawn(listening.serve(stop)),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }

    /// A link over plain HTTP.
    pub(crate) fn plain(&self) -> Link {
        Link::new(self.endpoint(), None, Limits::default())
    }

    /// A link over TLS.
    pub(crate) fn over_tls(&self, trust: &ServerTrust, credentials: Option<&Credentials>) -> Link {
        let config = client_config(trust, credentials).unwrap();
        Link::new(self.endpoint(), Some(config), Limits::default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        host: address.ip().to_string(),
        port: address.port(),
    }
}
