//! IAM's query API: users, groups, roles, their access keys and policies.

mod account;
mod answers;
mod attached;
mod family;
mod groups;
mod inline;
mod instance_profiles;
mod keys;
pub(crate) mod needs;
mod oidc;
mod operations;
pub(crate) mod parameters;
mod policies;
mod roles;
mod simulate;
mod tags;
mod users;
mod versions;

use crate::aws::{Service, Vocabulary};
use crate::metrics::Face;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "iam",
    event_source: "iam.amazonaws.com",
    target_prefix: None,
    version: Some("2010-05-08"),
    vocabulary: Vocabulary::Query { namespace: "https://iam.amazonaws.com/doc/2010-05-08/" },
    face: Face::Query,
    operations: operations::OPERATIONS,
    complete: true,
};
