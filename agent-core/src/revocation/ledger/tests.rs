//! Rules of a ledger, as tables.
