//! What authorization costs on the way to a cached manifest: opening the password, the identity, its policies, the
//! decision. Root's key beside a user with 5 policies of 10 statements, on a repository with a policy of its own.
//!
//! `cargo run --release -p wharf-registry --example authorization`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::sync::Arc;
use std::time::Instant;

use wharf_iam::decision::Need;
use wharf_registry::{Authorized, Caller, Clock, EncryptionType, NewRepository, Options, Origin, Registry};
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::MemoryObjects;
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::{AccountId, Mutability, Region, RepositoryRef};

const ROUNDS: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let (account, region): (AccountId, Region) =
        ("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
    let meta = Meta::open_sqlite(&path, SqliteOptions::default()).unwrap();
    let root = RootKey::from_key(&DataKey::generate().unwrap());
    let options = Options::new(account, region.clone());
    let writer = meta.clone();
    let registry =
        Registry::open(options, Clock::System, meta, Arc::new(MemoryObjects::new()), root).await.unwrap();
    let key = registry.ensure_default_account().await.unwrap().unwrap();
    let root = registry.root_caller(account).await.unwrap();
    let repository = RepositoryRef::private(account, region.clone(), "team/api".parse().unwrap());
    let at = allowed(&registry, &root, &repository, "ecr:CreateRepository").await;
    let new = NewRepository {
        mutability: Mutability::Mutable,
        scan_on_push: false,
        encryption_type: EncryptionType::Aes256,
        kms_key: None,
        tags: Vec::new(),
    };
    registry.create_repository(&at, new).await.unwrap();
    registry.set_repository_policy(&at, &repository_policy(), true).await.unwrap();
    let (root_password, _) = registry.issue_token(&root, &region, None);

    // A second key becomes a user's, with what the API would write.
    let user_key = registry.create_access_key(account).await.unwrap().access_key_id;
    let id = user_key.clone();
    let policies: Vec<String> = (0..5).map(policy).collect();
    let change = move |tx: &mut wharf_store::meta::Tx<'_>| {
        tx.execute(
            "INSERT INTO principals (id, account, kind, name, name_key, path, created_at)
             VALUES ('AIDAONE', $1, 'user', 'ann', 'ann', '/', 0)",
            &[&account.as_str()],
        )?;
        for (number, text) in policies.iter().enumerate() {
            let sql = "INSERT INTO inline_policies (principal_id, name, document) VALUES ('AIDAONE', $1, $2)";
            tx.execute(sql, &[&number.to_string(), text])?;
        }
        tx.execute("UPDATE access_keys SET principal_id = 'AIDAONE' WHERE id = $1", &[&id])
    };
    writer.write(change).await.unwrap();
    registry.identities_changed();
    let user = registry.authenticate_access_key(&user_key).await.unwrap().unwrap().caller;
    let (user_password, _) = registry.issue_token(&user, &region, None);

    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (password, medians) in [&root_password, &user_password].into_iter().zip(&mut medians) {
            medians.push(measure(&registry, password, &region, &repository).await);
        }
    }
    for (who, medians) in ["root key", "user, 5 policies of 10 statements"].iter().zip(&mut medians) {
        medians.sort_by(f64::total_cmp);
        println!("{who}: {:.2} µs at the median", medians[medians.len() / 2]);
    }
    assert!(key.access_key_id.starts_with("AKIA"));
    registry.close().await;
}

async fn allowed(
    registry: &Registry,
    caller: &Caller,
    repository: &RepositoryRef,
    action: &'static str,
) -> Authorized<RepositoryRef> {
    let need = Need::new(action, repository.arn(), repository.registry.account);
    registry.authorize(caller, repository.clone(), &[need]).await.unwrap()
}

/// The median of a request's authorization in microseconds, from memory and on this thread.
async fn measure(registry: &Registry, password: &str, region: &Region, repository: &RepositoryRef) -> f64 {
    let origin = |region: &Region| Origin {
        address: [192, 0, 2, 1].into(),
        secure: true,
        user_agent: Some("containerd/1.6".into()),
        referer: None,
        region: region.clone(),
        explain: false,
    };
    let caller = registry.authenticate_password(password, region).await.unwrap();
    allowed(registry, &caller.from(Arc::new(origin(region))), repository, "ecr:BatchGetImage").await;
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let caller = registry.authenticate_password_now(password, region).unwrap().unwrap();
        let caller = caller.from(Arc::new(origin(region)));
        let need = Need::new("ecr:BatchGetImage", repository.arn(), repository.registry.account);
        registry.authorize_now(&caller, repository, &[need]).unwrap().unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took[ROUNDS / 2].as_nanos() as f64 / 1000.0
}

/// Ten statements of the kind teams write: prefixes, conditions, a variable.
fn policy(number: usize) -> String {
    let statement = |index: usize| {
        format!(
            r#"{{"Sid":"s{index}","Effect":"Allow","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer","ecr:List*"],
                "Resource":"arn:aws:ecr:*:123456789012:repository/team{number}-{index}/*",
                "Condition":{{"IpAddress":{{"aws:SourceIp":["10.0.0.0/8","192.0.2.0/24"]}},
                              "StringEquals":{{"aws:PrincipalAccount":"123456789012"}}}}}}"#
        )
    };
    let mut statements: Vec<String> = (0..10).map(statement).collect();
    if number == 4 {
        statements[9] = r#"{"Effect":"Allow","Action":"ecr:Batch*",
            "Resource":"arn:aws:ecr:us-east-1:123456789012:repository/team/*"}"#
            .into();
    }
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

fn repository_policy() -> String {
    r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":{"AWS":"210987654321"},"Action":["ecr:BatchGetImage"]},
        {"Effect":"Deny","Principal":"*","Action":"ecr:*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#
        .into()
}
