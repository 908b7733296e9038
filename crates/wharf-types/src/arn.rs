//! Amazon Resource Names.

use std::fmt;
use std::str::FromStr;

use crate::{AccountId, Region, RepositoryName, RepositoryRef};

/// A parsed ARN: `arn:<partition>:<service>:<region>:<account>:<resource>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arn {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// `ecr`, `kms`, `iam`, …
    pub service: String,
    /// Empty for global services.
    pub region: String,
    /// Empty where the resource has no owner.
    pub account: String,
    /// What follows the fifth colon, e.g. `repository/team/api`.
    pub resource: String,
}

/// Text that is not an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ARN")]
pub struct ArnError;

impl Arn {
    /// The ARN of a private repository: `arn:aws:ecr:<region>:<account>:repository/<name>`.
    pub fn repository(account: AccountId, region: &Region, name: &RepositoryName) -> String {
        format!("arn:aws:ecr:{region}:{account}:repository/{name}")
    }

    /// The repository this ARN names, if it names a private one.
    pub fn as_repository(&self) -> Option<RepositoryRef> {
        if self.service != "ecr" {
            return None;
        }
        let name = self.resource.strip_prefix("repository/")?.parse().ok()?;
        Some(RepositoryRef::private(self.account.parse().ok()?, self.region.parse().ok()?, name))
    }
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().map(str::to_owned).ok_or(ArnError);
        if next()? != "arn" {
            return Err(ArnError);
        }
        let (partition, service, region, account, resource) = (next()?, next()?, next()?, next()?, next()?);
        if partition.is_empty() || service.is_empty() || resource.is_empty() {
            return Err(ArnError);
        }
        Ok(Self { partition, service, region, account, resource })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_arn_goes_both_ways() {
        let text = "arn:aws:ecr:us-east-1:123456789012:repository/team/api";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.to_string(), text);
        assert_eq!(arn.as_repository().unwrap().arn(), text);
        for bad in ["", "arn", "arn:aws:ecr:us-east-1:123456789012", "urn:aws:ecr:r:1:x", "arn::ecr:r:1:x"] {
            assert!(bad.parse::<Arn>().is_err(), "{bad:?}");
        }
    }
}
