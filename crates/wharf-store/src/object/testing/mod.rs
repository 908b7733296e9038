//! For tests of this crate and of those above: the contract that every [`super::ObjectStore`] keeps, a store that fails on
//! demand, and a disk that loses power. Always compiled, used by no production code.

pub mod contract;
mod faulty;
mod power_loss;

pub use faulty::{Fault, Faults, FaultyObjects};
pub use power_loss::{PowerLossFs, Survival};
