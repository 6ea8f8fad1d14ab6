//! What is refused, by code.
