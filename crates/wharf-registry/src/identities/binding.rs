//! Principals of stored policies are bound to unique ids when the policy is saved, so that a user or role made later
//! under the same name is not meant by it. Read back, they are ARNs again while they live (`iam-evaluation` §1.1).

use wharf_store::meta::iam::unique_ids;
use wharf_store::meta::{MetaError, Tx};
use wharf_types::AccountId;

use super::document::Node;
use crate::RegistryError;

/// Why a policy cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// A user or role of an account of this deployment that does not exist.
    #[error("there is no principal {arn}")]
    Unbound {
        /// Its ARN.
        arn: String,
    },
    /// Not JSON.
    #[error("a policy is not JSON")]
    Syntax,
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<BindError> for RegistryError {
    /// For policies that were bound before: there, only the metadata can fail.
    fn from(error: BindError) -> Self {
        match error {
            BindError::Meta(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// The document with unique ids in place of the ARNs of users and roles of this deployment's accounts. Accounts that
/// are not of this deployment cannot be asked; their principals stay as they are.
pub(crate) fn bind(tx: &mut Tx<'_>, document: &str) -> Result<String, BindError> {
    let mut node = Node::parse(document).ok_or(BindError::Syntax)?;
    node.for_each_principal(|principal| {
        let Some(entity) = Entity::parse(principal) else { return Ok(()) };
        match unique_ids::find(tx, entity.account, entity.kind, &entity.path, entity.name)? {
            Some(id) => *principal = id,
            None if !is_ours(tx, entity.account)? => {}
            None => return Err(BindError::Unbound { arn: std::mem::take(principal) }),
        }
        Ok(())
    })?;
    Ok(node.compact())
}

/// The document with ARNs in place of the unique ids of users and roles that live.
pub(crate) fn unbind(tx: &mut Tx<'_>, bound: &str) -> Result<String, BindError> {
    Ok(unbind_node(tx, bound)?.compact())
}

/// As [`unbind`], for printing.
pub(crate) fn unbind_node(tx: &mut Tx<'_>, bound: &str) -> Result<Node, BindError> {
    let mut node = Node::parse(bound).ok_or(BindError::Syntax)?;
    node.for_each_principal(|principal| {
        if is_unique_id(principal)
            && let Some(arn) = unique_ids::arn(tx, principal)?
        {
            *principal = arn;
        }
        Ok::<_, BindError>(())
    })?;
    Ok(node)
}

fn is_unique_id(principal: &str) -> bool {
    principal.starts_with("AIDA") || principal.starts_with("AROA")
}

/// A user or role as its ARN names it.
struct Entity<'a> {
    account: &'a str,
    kind: &'a str,
    /// From `/` to `/`.
    path: String,
    name: &'a str,
}

impl<'a> Entity<'a> {
    fn parse(arn: &'a str) -> Option<Self> {
        let fields: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", _, "iam", "", account, resource] = fields[..] else { return None };
        let (kind, rest) = resource.split_once('/')?;
        if !matches!(kind, "user" | "role") {
            return None;
        }
        let (path, name) = match rest.rsplit_once('/') {
            Some((path, name)) => (format!("/{path}/"), name),
            None => ("/".to_owned(), rest),
        };
        Some(Self { account, kind, path, name })
    }
}

fn is_ours(tx: &mut Tx<'_>, account: &str) -> Result<bool, MetaError> {
    match account.parse::<AccountId>() {
        Ok(account) => wharf_store::meta::accounts::account_exists(tx, account),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tests::Fixture;

    fn policy(principals: &str) -> String {
        format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"AWS":{principals}}},"Action":"ecr:*"}}]}}"#
        )
    }

    async fn insert(fixture: &Fixture, sql: &'static str) {
        let write = fixture.registry.write_identities(move |tx| Ok(tx.execute(sql, &[])?));
        assert_eq!(write.await.unwrap(), 1);
    }

    async fn bound(fixture: &Fixture, document: String) -> Result<String, String> {
        fixture
            .registry
            .inner
            .meta
            .read(move |tx| Ok::<_, RegistryError>(bind(tx, &document)))
            .await
            .unwrap()
            .map_err(|error| error.to_string())
    }

    async fn unbound(fixture: &Fixture, bound: String) -> String {
        fixture
            .registry
            .inner
            .meta
            .read(move |tx| unbind(tx, &bound).map_err(RegistryError::from))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn names_become_ids_and_names_again_while_they_live() {
        let fixture = Fixture::new().await;
        insert(
            &fixture,
            "INSERT INTO principals (id, account, kind, name, name_key, path, created_at)
             VALUES ('AIDAONE', '123456789012', 'user', 'Ann', 'ann', '/team/', 0)",
        )
        .await;
        let text =
            policy(r#"["arn:aws:iam::123456789012:user/team/Ann","*","arn:aws:iam::999999999999:role/x"]"#);
        let ids = policy(r#"["AIDAONE","*","arn:aws:iam::999999999999:role/x"]"#);
        assert_eq!(bound(&fixture, text.clone()).await.as_ref(), Ok(&ids));
        assert_eq!(unbound(&fixture, ids.clone()).await, text);
        for stranger in ["user/Ann", "user/team/ann", "role/team/Ann"] {
            let arn = format!("arn:aws:iam::123456789012:{stranger}");
            let refused = bound(&fixture, policy(&format!("\"{arn}\""))).await.unwrap_err();
            assert_eq!(refused, format!("there is no principal {arn}"));
        }
        insert(&fixture, "DELETE FROM principals WHERE id = 'AIDAONE'").await;
        assert_eq!(unbound(&fixture, ids.clone()).await, ids, "the id stays when its user has gone");
    }
}
