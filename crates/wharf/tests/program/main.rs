//! The program from outside: what an operator and other tools rely on.

mod certificates;
mod commands;
mod server;
mod serving;
mod settings;
