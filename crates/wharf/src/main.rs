//! The program: command line, configuration, start-up and shut-down.

fn main() {}
