//! What a registry does by itself, or because its operator says so, as CloudTrail records it. Each record is written in
//! the transaction that does it, and copied from there to the audit log at least once: a cursor moves after the log has
//! them. A record that is copied twice has the same `eventID`.

use serde_json::{Value, json};
use wharf_store::meta::{MetaError, Tx, events};
use wharf_types::Timestamp;

use crate::{Registry, RegistryError, Repository};

/// EventBridge's name for such an event.
pub(crate) const KIND: &str = "AWS Service Event via CloudTrail";
/// Who has read how far in the events.
const READER: &str = "audit-log";
/// Events that are looked at in one transaction.
const PAGE: usize = 500;

/// Who is behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The registry, for reasons that a client gave earlier. Recorded as ECR does it.
    Registry,
    /// The operator of the machine. ECR has nobody like that.
    Operator,
}

/// Records that the audit log has not got yet.
#[derive(Debug)]
pub struct ServiceRecords {
    /// One JSON object each, without line breaks, the oldest first.
    pub records: Vec<String>,
    from: i64,
    to: i64,
}

/// Writes a record of something that is done to a repository.
pub(crate) fn note(
    tx: &mut Tx<'_>,
    repository: &Repository,
    by: By,
    event: &str,
    details: Value,
) -> Result<(), RegistryError> {
    let registry = &repository.name.registry;
    let (account, region) = (registry.account.as_str(), registry.region.as_str());
    let (source, invoked_by) = match by {
        By::Registry => ("ecr.amazonaws.com", "AWS Internal"),
        By::Operator => ("wharf.amazonaws.com", "operator"),
    };
    let record = json!({
        "eventVersion": "1.08",
        "userIdentity": {"accountId": account, "invokedBy": invoked_by},
        "eventTime": Timestamp::from_micros(tx.now_micros()).to_rfc3339(),
        "eventSource": source,
        "eventName": event,
        "awsRegion": region,
        "sourceIPAddress": invoked_by,
        "userAgent": invoked_by,
        "eventID": uuid::Uuid::new_v4().to_string(),
        "readOnly": by == By::Registry,
        "resources": [
            {"ARN": repository.name.arn(), "accountId": account, "type": "AWS::ECR::Repository"},
        ],
        "eventType": "AwsServiceEvent",
        "recipientAccountId": account,
        "serviceEventDetails": details,
    });
    Ok(events::insert(tx, account, region, KIND, &record.to_string())?)
}

impl Registry {
    /// The oldest records that have not been copied to the audit log; `None` if there is nothing to do. Several processes
    /// may ask at a time, and then copy the same.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn service_records(&self) -> Result<Option<ServiceRecords>, RegistryError> {
        let read = |tx: &mut Tx<'_>| {
            let from = events::cursor(tx, READER)?;
            Ok((from, events::settled_page(tx, from, PAGE)?))
        };
        let found = self.inner.meta.read_background(read).await;
        let (from, page) = found.map_err(|error: MetaError| RegistryError::from(error))?;
        let Some(last) = page.last() else { return Ok(None) };
        let to = last.id;
        let records = page.into_iter().filter(|event| event.detail_type == KIND).map(|event| event.detail);
        Ok(Some(ServiceRecords { records: records.collect(), from, to }))
    }

    /// Notes that the audit log has got them.
    ///
    /// # Errors
    /// When the metadata fails: they will be copied again.
    pub async fn service_records_copied(&self, records: &ServiceRecords) -> Result<(), RegistryError> {
        let (from, to) = (records.from, records.to);
        let write = move |tx: &mut Tx<'_>| events::advance(tx, READER, from, to);
        self.inner.meta.write(write).await.map_err(|error: MetaError| RegistryError::from(error))
    }
}
