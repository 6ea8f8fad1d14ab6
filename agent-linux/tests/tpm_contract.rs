//! What [`agent_core::tpm::Tpm`] promises, tried on real software TPMs by each way to them that this build has.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[cfg(all(feature = "tss", feature = "raw"))]
#[path = "tpm_contract/both.rs"]
mod both;
mod common;
#[path = "tpm_contract/keys.rs"]
mod keys;
#[path = "tpm_contract/outbound.rs"]
mod outbound;
#[cfg(feature = "raw")]
#[path = "tpm_contract/socket.rs"]
mod socket;
#[path = "tpm_contract/support.rs"]
mod support;
#[path = "tpm_contract/survival.rs"]
mod survival;
#[path = "tpm_contract/uses.rs"]
mod uses;

/// The contract's tests, in a module for one way to the TPM.
macro_rules! contract {
    ($way:ident: $commands:ty { $($room:ident::$test:ident,)* }) => {
        mod $way {
            $(
                #[test]
                fn $test() {
                    crate::$room::$test::<$commands>();
                }
            )*

            #[test]
            fn killed_at_any_moment() {
                let name = concat!(stringify!($way), "::killed_at_any_moment");
                crate::survival::killed_at_any_moment::<$commands>(name);
            }
        }
    };
    ($way:ident: $commands:ty) => {
        contract!($way: $commands {
            keys::ak_attributes,
            keys::identity_needs_no_file,
            keys::ek_certificates,
            keys::a_persistent_ek_is_used,
            keys::an_endorsement_password_is_named,
            keys::nobody_answers,
            keys::random_numbers,
            uses::quotes_verify,
            uses::credentials,
            uses::transport_key_stays_in_tpm,
            uses::pcrs,
            uses::a_bank_that_is_not_there,
            outbound::every_bank_is_capped,
            outbound::an_ak_certifies_itself,
            outbound::counters,
            outbound::what_is_no_counter,
            outbound::an_owner_password_is_named,
            outbound::kept_for_this_tpm_and_its_pcrs,
            outbound::capping_needs_no_keys,
            outbound::provisioning_makes_no_rsa_key,
            outbound::a_tpm_is_waited_for,
            survival::contexts_outlive_their_tpm,
            survival::killed_agent_starts_again,
            survival::unclean_stops_lock_nobody_out,
        });
    };
}

#[cfg(feature = "tss")]
contract!(tss: agent_linux::tpm::tss::Tss);
#[cfg(feature = "raw")]
contract!(raw: agent_linux::tpm::raw::Raw);
