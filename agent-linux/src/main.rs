//! keyhalf.
fn main() {}
