//! The structures of the model `iam/2010-05-08` that many operations answer.

use wharf_registry::{ManagedPolicy, PolicyVersion, Principal};

use crate::aws::Xml;

/// `User`, without what listings leave out unless `whole`.
pub(super) fn user_xml(user: &Principal, whole: bool) -> Xml {
    let xml = Xml::new()
        .text("Path", &user.path)
        .text("UserName", &user.name)
        .text("UserId", &user.id)
        .text("Arn", &user.arn)
        .time("CreateDate", user.created_at);
    if !whole {
        return xml;
    }
    with_tags(with_boundary(xml, user.boundary.as_deref()), &user.tags)
}

/// `Group`
pub(super) fn group_xml(group: &Principal) -> Xml {
    Xml::new()
        .text("Path", &group.path)
        .text("GroupName", &group.name)
        .text("GroupId", &group.id)
        .text("Arn", &group.arn)
        .time("CreateDate", group.created_at)
}

/// Adds `PermissionsBoundary`, if there is one.
pub(super) fn with_boundary(xml: Xml, boundary: Option<&str>) -> Xml {
    match boundary {
        Some(arn) => {
            let inside = Xml::new()
                .text("PermissionsBoundaryType", "PermissionsBoundaryPolicy")
                .text("PermissionsBoundaryArn", arn);
            xml.element("PermissionsBoundary", inside)
        }
        None => xml,
    }
}

/// Adds `Tags`, if there are any.
pub(super) fn with_tags(xml: Xml, tags: &[(String, String)]) -> Xml {
    if tags.is_empty() { xml } else { tags_xml(xml, tags) }
}

/// Adds `Tags`.
pub(super) fn tags_xml(xml: Xml, tags: &[(String, String)]) -> Xml {
    xml.list("Tags", tags.iter().map(|(key, value)| Xml::new().text("Key", key).text("Value", value)))
}

/// `Policy`, without what listings leave out unless `whole`.
pub(super) fn policy_xml(policy: &ManagedPolicy, whole: bool) -> Xml {
    let xml = Xml::new()
        .text("PolicyName", &policy.name)
        .text("PolicyId", &policy.id)
        .text("Arn", &policy.arn)
        .text("Path", &policy.path)
        .text("DefaultVersionId", &policy.default_version)
        .number("AttachmentCount", policy.attachments)
        .number("PermissionsBoundaryUsageCount", policy.boundaries)
        .flag("IsAttachable", policy.is_attachable);
    let description = policy.description.as_deref().filter(|_| whole);
    let xml = xml
        .optional("Description", description)
        .time("CreateDate", policy.created_at)
        .time("UpdateDate", policy.updated_at);
    if whole { with_tags(xml, &policy.tags) } else { xml }
}

/// `PolicyVersion`, with its document if `whole`.
pub(super) fn version_xml(version: &PolicyVersion, whole: bool) -> Xml {
    let xml = if whole { Xml::new().document("Document", &version.document) } else { Xml::new() };
    xml.text("VersionId", &version.id)
        .flag("IsDefaultVersion", version.is_default)
        .time("CreateDate", version.created_at)
}
