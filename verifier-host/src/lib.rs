//! keyhalf.
