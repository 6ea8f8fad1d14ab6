//! Named policies on Keylime's verifier, by our tenant.
