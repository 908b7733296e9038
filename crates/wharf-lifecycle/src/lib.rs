//! Lifecycle policies: the text of a policy in, a verdict per image out, with the rule that decided.
//!
//! Nothing here does I/O, and nothing here acts: images and the time come in as arguments. The semantics are ECR's
//! (Amazon ECR user guide, "Lifecycle policies"); rules with a `wharf` object go beyond them, where allowed.

mod evaluate;
mod extension;
mod glob;
mod parse;
mod policy;

pub use evaluate::{Image, ImageTag, Outcome, Protection, Verdict, evaluate};
pub use extension::{Extension, Order};
pub use parse::{Grammar, PolicyError};
pub use policy::{Action, Count, LifecyclePolicy, Rule, Selection, StorageClass, TagSelection};
