//! wharf's own JSON API: what ECR has no operation for. Signed and authorized as every AWS API is, for the service
//! `wharf`.

mod in_use;

use crate::aws::{Operation, Service, Vocabulary};
use crate::metrics::Face;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "wharf",
    event_source: "wharf.amazonaws.com",
    target_prefix: Some("Wharf_V20261101."),
    version: None,
    vocabulary: Vocabulary::Ecr,
    face: Face::Wharf,
    operations: OPERATIONS,
    complete: true,
};

/// Every operation.
const OPERATIONS: &[Operation] = &[
    Operation::built::<in_use::ListImagesInUse>("ListImagesInUse"),
    Operation::built::<in_use::ReleaseImagesInUse>("ReleaseImagesInUse"),
    Operation::built::<in_use::ReportImagesInUse>("ReportImagesInUse"),
];
