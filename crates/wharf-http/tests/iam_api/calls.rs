//! Calls of IAM, and how their answers are read.

use crate::aws_harness::{Client, Reply};

pub const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*"}}"#;
pub const READ_ONLY: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly";

/// Calls an operation with parameters.
pub async fn iam(client: &Client, operation: &str, parameters: &[(&str, &str)]) -> Reply {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", operation).append_pair("Version", "2010-05-08");
    client.form("iam", &form.extend_pairs(parameters).finish()).await
}

/// Calls an operation that must succeed; answers the body.
#[track_caller]
pub fn ok(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "text/xml");
    reply.text()
}

/// Status, code and message of an error.
#[track_caller]
pub fn refusal(reply: &Reply) -> (u16, String, String) {
    assert!(reply.status.is_client_error(), "{}", reply.text());
    let text = reply.text();
    let message = element(&text, "Message").replace("&apos;", "'");
    (reply.status.as_u16(), element(&text, "Code").to_owned(), message)
}

/// The text of the first element of a name.
#[track_caller]
pub fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let open = format!("<{name}>");
    let Some(start) = xml.find(&open) else { panic!("no {name} in {xml}") };
    let rest = &xml[start + open.len()..];
    &rest[..rest.find(&format!("</{name}>")).unwrap()]
}

/// The texts of all elements of a name.
pub fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).map(|rest| &rest[..rest.find(&close).unwrap()]).collect()
}

/// Everything IAM knows, as its listings say it.
pub async fn state(root: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for (operation, parameters) in [
        ("ListUsers", &[][..]),
        ("ListGroups", &[]),
        ("ListPolicies", &[("Scope", "Local")]),
        ("GetUser", &[("UserName", "ann")]),
        ("ListUserPolicies", &[("UserName", "ann")]),
        ("ListAttachedUserPolicies", &[("UserName", "ann")]),
        ("ListGroupsForUser", &[("UserName", "ann")]),
        ("ListAccessKeys", &[("UserName", "ann")]),
        ("GetGroup", &[("GroupName", "ops")]),
    ] {
        let text = ok(&iam(root, operation, parameters).await);
        all.push(text.split("<ResponseMetadata>").next().unwrap().to_owned());
    }
    all
}
