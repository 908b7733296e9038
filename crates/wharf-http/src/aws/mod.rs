//! The AWS protocols: which service and operation a request is for, who signed it, what it needs, and how answers
//! and errors are written. What the operations do is in `ecr/`, `kms/` and `sts/`.

mod authentication;
mod error;
mod input;
mod operation;
mod protocol;
pub(crate) mod query;
mod request;

pub use error::{AwsError, Vocabulary, WireError};
pub use input::{Input, Pattern, Style, Text};
pub use operation::{Answer, Call, Operation, Service, Target, operations_markdown, tables};
pub use protocol::handle;
pub use query::Xml;
pub use request::AwsRequest;
