//! Input shapes that many operations share, with the bounds and patterns of the model (API reference §2, §5).

use wharf_registry::{ImageFilter, ImageId, ImageStatus, PageRequest, TagStatus};
use wharf_types::{
    AccountId, Digest, Mutability, MutabilityError, RegistryRef, RepositoryName, RepositoryRef, TagFilter,
};

use crate::aws::{AwsError, AwsRequest, Input, Pattern, Text};

/// `RegistryId`.
pub(super) const REGISTRY_ID: Text =
    Text::ANY.matching(Pattern { text: "[0-9]{12}", matches: is_registry_id });

/// `RepositoryName`.
pub(super) const REPOSITORY_NAME: Text =
    Text::length(2, 256).matching(Pattern { text: RepositoryName::PATTERN, matches: is_repository_name });

/// `UploadId`.
pub(super) const UPLOAD_ID: Text = Text::ANY.matching(Pattern {
    text: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    matches: is_upload_id,
});

/// `LayerDigest`.
pub(super) const LAYER_DIGEST: Text =
    Text::ANY.matching(Pattern { text: "[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+", matches: is_digest });

/// `PrincipalArn`.
pub(super) const PRINCIPAL_ARN: Text = Text::length(0, 200).matching(Pattern {
    text: r"^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(role|user)/[\w+=,.@-]+(/[\w+=,.@-]+)*$",
    matches: is_principal_arn,
});

/// `ImageTag`.
pub(super) const IMAGE_TAG: Text = Text::length(1, 300);

/// `ImageTag` where a tag is made: the grammar of OCI on top.
pub(super) const NEW_IMAGE_TAG: Text = IMAGE_TAG.matching(Pattern {
    text: "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
    matches: |text| text.parse::<wharf_types::Tag>().is_ok(),
});

/// `ImageTagMutability`.
const MUTABILITY: Text =
    Text::one_of(&["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"]);

/// `ImageTagMutabilityExclusionFilterValue`.
const FILTER: Text = Text::length(1, 128).matching(Pattern {
    text: "^[0-9a-zA-Z._*-]{1,128}$",
    matches: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._*-".contains(&b)),
});

/// The registry an input names, the caller's own by default.
pub(super) fn registry(input: &mut Input, request: &AwsRequest<'_>) -> Result<RegistryRef, AwsError> {
    let account: Option<AccountId> = input.parsed("registryId", &REGISTRY_ID)?;
    Ok(request.registry_of(account))
}

/// The repository an input names.
pub(super) fn repository(input: &mut Input, request: &AwsRequest<'_>) -> Result<RepositoryRef, AwsError> {
    let registry = registry(input, request)?;
    let name: RepositoryName = input.required_parsed("repositoryName", &REPOSITORY_NAME)?;
    Ok(registry.repository(name))
}

/// `maxResults` and `nextToken`.
pub(crate) fn page(input: &mut Input, default: usize, max: usize) -> Result<PageRequest, AwsError> {
    let limit = input.integer("maxResults", 1..=i64::try_from(max).unwrap_or(i64::MAX))?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(default);
    Ok(PageRequest { limit, token: input.text("nextToken", &Text::ANY)? })
}

/// Either the page that is asked for, or none because `ids` are listed: both together are refused.
pub(super) fn page_unless(input: &mut Input, ids: Option<&str>) -> Result<Option<PageRequest>, AwsError> {
    let Some(ids) = ids else { return page(input, 100, 1000).map(Some) };
    let max_results = input.integer("maxResults", 1..=1000)?;
    let token = input.text("nextToken", &Text::ANY)?;
    let member = match (max_results, token) {
        (Some(_), _) => "maxResults",
        (None, Some(_)) => "nextToken",
        (None, None) => return Ok(None),
    };
    Err(input.refuse(member, "", format!("Member must not be given together with '{ids}'")))
}

/// `imageIds`, 1 to 100 of them.
pub(super) fn image_ids(input: &mut Input) -> Result<Option<Vec<ImageId>>, AwsError> {
    input.structures("imageIds", 1..=100, read_image_id)
}

/// `imageId`, which must be there.
pub(super) fn image_id(input: &mut Input) -> Result<ImageId, AwsError> {
    let members = input.structure("imageId")?;
    read_image_id(&mut input.required("imageId", members)?)
}

fn read_image_id(id: &mut Input) -> Result<ImageId, AwsError> {
    let digest = id.text("imageDigest", &Text::ANY)?;
    Ok(ImageId { digest, tag: id.text("imageTag", &IMAGE_TAG)? })
}

/// `filter` of DescribeImages and ListImages. Without one, only active images are shown.
pub(super) fn image_filter(input: &mut Input) -> Result<ImageFilter, AwsError> {
    let mut filter = ImageFilter { tags: TagStatus::Any, status: Some(ImageStatus::Active) };
    let Some(mut members) = input.structure("filter")? else { return Ok(filter) };
    match members.text("tagStatus", &Text::one_of(&["TAGGED", "UNTAGGED", "ANY"]))?.as_deref() {
        Some("TAGGED") => filter.tags = TagStatus::Tagged,
        Some("UNTAGGED") => filter.tags = TagStatus::Untagged,
        _ => {}
    }
    filter.status = status(&mut members, "imageStatus")?;
    Ok(filter)
}

/// `imageStatus` or `artifactStatus` of a filter: `None` for `ANY`, active by default.
pub(super) fn status(input: &mut Input, name: &str) -> Result<Option<ImageStatus>, AwsError> {
    let word = input.text(name, &Text::one_of(&["ACTIVE", "ARCHIVED", "ACTIVATING", "ANY"]))?;
    Ok(word.map_or(Some(ImageStatus::Active), |word| ImageStatus::parse(&word)))
}

/// A list of `Tag`. Which keys and values are legal is the registry's rule.
pub(super) fn tags(input: &mut Input, name: &str) -> Result<Option<Vec<(String, String)>>, AwsError> {
    input.structures(name, 0..=usize::MAX, |tag| {
        Ok((tag.required_text("Key", &Text::ANY)?, tag.required_text("Value", &Text::ANY)?))
    })
}

/// `imageTagMutability` with its exclusion filters; `None` if neither is given.
pub(super) fn mutability(input: &mut Input) -> Result<Option<Mutability>, AwsError> {
    let name = input.text("imageTagMutability", &MUTABILITY)?;
    let filters = input.structures("imageTagMutabilityExclusionFilters", 1..=5, |filter| {
        filter.required_text("filterType", &Text::one_of(&["WILDCARD"]))?;
        let text = filter.required_text("filter", &FILTER)?;
        TagFilter::parse(&text)
            .map_err(|_| filter.refuse("filter", &text, "Member must have at most 2 wildcards"))
    })?;
    let (name, filters) = match (name, filters) {
        (None, None) => return Ok(None),
        (name, filters) => (name.unwrap_or_else(|| "MUTABLE".into()), filters.unwrap_or_default()),
    };
    let refused = |error: MutabilityError| {
        let constraint = match error {
            MutabilityError::Filters(setting) if setting.ends_with("_WITH_EXCLUSION") => {
                format!("Member must not be null when imageTagMutability is {setting}")
            }
            MutabilityError::Filters(setting) => {
                format!("Member must be null when imageTagMutability is {setting}")
            }
            other => other.to_string(),
        };
        input.refuse("imageTagMutabilityExclusionFilters", &name, constraint)
    };
    Mutability::new(&name, filters).map(Some).map_err(refused)
}

/// A digest whose form the model has accepted already; other algorithms than ours are refused here.
pub(super) fn digest(input: &Input, name: &str, text: &str) -> Result<Digest, AwsError> {
    text.parse().map_err(|_| {
        input.refuse(name, text, "must be a digest of the form 'sha256:<64 hexadecimal digits>'")
    })
}

fn is_registry_id(text: &str) -> bool {
    text.parse::<AccountId>().is_ok()
}

fn is_repository_name(text: &str) -> bool {
    text.parse::<RepositoryName>().is_ok()
}

fn is_upload_id(text: &str) -> bool {
    text.parse::<wharf_types::UploadId>().is_ok()
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, encoded)| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_+.".contains(&b);
        !algorithm.is_empty()
            && !encoded.is_empty()
            && algorithm.bytes().all(legal)
            && encoded.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_principal_arn(text: &str) -> bool {
    let partition = |text: &str| {
        text == "aws"
            || text.strip_prefix("aws-").is_some_and(|rest| {
                rest.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
            })
    };
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", in_partition, "iam", "", account, resource] = parts[..] else { return false };
    let path = resource.strip_prefix("role/").or_else(|| resource.strip_prefix("user/"));
    partition(in_partition) && is_registry_id(account) && path.is_some_and(|path| path.split('/').all(word))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn input(value: Value) -> Input {
        Input::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn patterns_match_whole_texts() {
        for good in ["arn:aws:iam::123456789012:role/a", "arn:aws-us-gov:iam::123456789012:user/p/a@b"] {
            assert!(is_principal_arn(good), "{good}");
        }
        for bad in [
            "",
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a//b",
            "arn:aws-:iam::123456789012:role/a",
            "arn:aws:iam::12345678901:role/a",
            "arn:aws:iam:us-east-1:123456789012:role/a",
            "arn:aws:iam::123456789012:role/a:b",
        ] {
            assert!(!is_principal_arn(bad), "{bad}");
        }
        assert!(is_digest("sha256:AB01") && is_digest("a-_+.:0"));
        for bad in ["", ":", "sha256:", ":ab", "sha256:xyz", "a b:00", "sha256:00\n"] {
            assert!(!is_digest(bad), "{bad:?}");
        }
    }

    #[test]
    fn filters_and_the_setting_go_together() {
        let read = |value: Value| mutability(&mut input(value));
        let filters = json!([{"filterType": "WILDCARD", "filter": "dev-*"}]);
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"imageTagMutability": "IMMUTABLE"})).unwrap(), Some(Mutability::Immutable));
        let both = json!({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters});
        assert_eq!(read(both).unwrap().unwrap().filters().len(), 1);
        for (bad, member) in [
            (json!({"imageTagMutability": "NEVER"}), "imageTagMutability"),
            (json!({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}), "imageTagMutabilityExclusionFilters"),
            (json!({"imageTagMutabilityExclusionFilters": filters}), "imageTagMutabilityExclusionFilters"),
            (
                json!({"imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                       "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "a*b*c*"}]}),
                "imageTagMutabilityExclusionFilters.1.member.filter",
            ),
            (
                json!({"imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": []}),
                "imageTagMutabilityExclusionFilters",
            ),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("Invalid parameter at '{member}' ")), "{error}");
        }
    }

    #[test]
    fn pages_have_bounds_and_do_not_go_with_ids() {
        assert_eq!(page(&mut input(json!({})), 20, 50).unwrap().limit, 20);
        assert_eq!(page(&mut input(json!({"maxResults": 50})), 20, 50).unwrap().limit, 50);
        for bad in [json!({"maxResults": 0}), json!({"maxResults": 51})] {
            assert!(page(&mut input(bad), 20, 50).is_err());
        }
        assert!(page_unless(&mut input(json!({})), Some("imageIds")).unwrap().is_none());
        for bad in [json!({"maxResults": 5}), json!({"nextToken": "x"})] {
            let error = page_unless(&mut input(bad), Some("imageIds")).unwrap_err();
            assert!(matches!(error, AwsError::InvalidParameter { .. }));
        }
    }

    #[test]
    fn only_active_images_are_shown_unless_told() {
        let read = |value: Value| image_filter(&mut input(json!({ "filter": value }))).unwrap();
        assert_eq!(read(json!(null)).status, Some(ImageStatus::Active));
        assert_eq!(read(json!({"tagStatus": "TAGGED"})).status, Some(ImageStatus::Active));
        assert_eq!(read(json!({"imageStatus": "ANY"})).status, None);
        assert_eq!(read(json!({"imageStatus": "ARCHIVED"})).status, Some(ImageStatus::Archived));
        assert_eq!(read(json!({"tagStatus": "UNTAGGED"})).tags, TagStatus::Untagged);
    }
}
