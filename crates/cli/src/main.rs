//! The command line front end of Hearth.
fn main() {}
