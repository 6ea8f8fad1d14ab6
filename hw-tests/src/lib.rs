//! Whole machines for keyhalf's scenario tests, its demo and its benchmark: real TPMs (swtpm), real programs, real TLS.
//!
//! A scenario is a [`site::story`]. It starts a [`servers::Verifier`], boots a [`node::Node`] with a
//! [`swtpm::Swtpm`], lets a [`tenant::Tenant`] do what an operator would type, and then says what must hold. Each part
//! has its own loopback address with the default ports, and what belongs to a machine (`/var/lib/keylime`, `/root`) is its
//! own by a mount namespace, so that scenarios run side by side. All of it needs the namespaces that
//! `hw-tests/namespace` makes; `hw-tests/test` sees to that.
//!
//! | module | what it stands for |
//! | --- | --- |
//! | [`site`] | one scenario: its directory, its addresses, its logs |
//! | [`machine`] | a machine's file system |
//! | [`network`] | hosts that have a network between them |
//! | [`process`] | a running program and what it logged |
//! | [`swtpm`], [`bus`] | a TPM, and the wire between it and whoever uses it |
//! | [`servers`], [`node`], [`tenant`] | keyhalf's programs |
//! | [`guest`] | a machine that really boots, in QEMU |
//! | [`measured`] | what a node's kernel and firmware measured |
//! | [`payload`] | payload folders, and archives that nobody should open |
//! | [`byhand`] | the tenant without its program |
//! | [`receivers`] | many agents that are told of revocations, and no more |
//! | [`raw`], [`liar`] | hostile clients, and a hostile agent |

pub mod bus;
pub mod byhand;
pub mod day;
pub mod guest;
pub mod keylime;
pub mod liar;
pub mod machine;
pub mod measured;
pub mod network;
pub mod node;
pub mod operator;
pub mod payload;
pub mod process;
pub mod raw;
pub mod receivers;
pub mod relay;
pub mod servers;
pub mod site;
pub mod swtpm;
pub mod tap;
pub mod tenant;
pub mod traffic;

/// What a scenario ends with: any error fails it, and the logs of its programs are shown.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
