use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use wharf_iam::decision::Need;
use wharf_store::meta::{Meta, SqliteOptions};
use wharf_store::object::{MemoryObjects, ObjectId, ObjectStore};
use wharf_store::seal::{DataKey, RootKey};
use wharf_types::Region;

use super::*;
use crate::{Authorized, Clock, Options};

pub(crate) const ACCOUNT: &str = "123456789012";

/// A registry on an empty directory, its clock, and what it needs to be opened again.
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) objects: MemoryObjects,
    options: Options,
    root: DataKey,
    dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(ACCOUNT.parse().unwrap(), "us-east-1".parse().unwrap());
        change(&mut options);
        let (dir, root) = (tempfile::tempdir().unwrap(), DataKey::generate().unwrap());
        let (clock, objects) =
            (Clock::manual(Timestamp::from_micros(1_700_000_000_000_000)), MemoryObjects::new());
        let registry = open(&dir, &options, &clock, &objects, &root).await.unwrap();
        Self { registry, clock, objects, options, root, dir }
    }

    /// Closes the registry and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.registry.close().await;
        self.registry = open(&self.dir, &self.options, &self.clock, &self.objects, &self.root).await.unwrap();
    }

    pub(crate) fn authorized<T>(&self, account: &str, target: T) -> Authorized<T> {
        let account = account.parse().unwrap();
        let caller = Caller::root(account, "AKIATEST");
        // Nothing has to be waited for where the metadata is a file.
        self.registry
            .authorize(&caller, target, &[Need::new("ecr:Test", "*", account)])
            .now_or_never()
            .unwrap()
            .unwrap()
    }

    pub(crate) fn here(&self) -> Authorized<RegistryRef> {
        self.at(ACCOUNT, "us-east-1")
    }

    pub(crate) fn at(&self, account: &str, region: &str) -> Authorized<RegistryRef> {
        self.authorized(account, RegistryRef::new(account.parse().unwrap(), region.parse().unwrap()))
    }
}

async fn open(
    dir: &tempfile::TempDir,
    options: &Options,
    clock: &Clock,
    objects: &MemoryObjects,
    root: &DataKey,
) -> Result<Registry, RegistryError> {
    let Clock::Manual(now) = clock.clone() else { panic!("tests set the time") };
    let sqlite =
        SqliteOptions { clock: Arc::new(move || now.load(Ordering::SeqCst)), ..SqliteOptions::default() };
    let meta = Meta::open_sqlite(&dir.path().join("meta.db"), sqlite)?;
    let objects: Arc<dyn ObjectStore> = Arc::new(objects.clone());
    Registry::open(options.clone(), clock.clone(), meta, objects, RootKey::from_key(root)).await
}

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

#[tokio::test]
async fn the_first_start_makes_one_key_and_no_later_start_another() {
    let mut fixture = Fixture::new().await;
    let first = fixture.registry.ensure_default_account().await.unwrap().expect("the first key");
    assert_eq!(first.account_id.as_str(), ACCOUNT);
    assert!(fixture.registry.ensure_default_account().await.unwrap().is_none());
    fixture.registry.delete_access_key(&first.access_key_id).await.unwrap();
    fixture.reopen().await;
    assert!(fixture.registry.ensure_default_account().await.unwrap().is_none(), "deleted is deleted");
    assert_eq!(fixture.registry.list_accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn keys_have_the_form_of_awss_and_open_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let new = fixture.registry.create_account(None).await.unwrap();
    let id = new.access_key_id.strip_prefix("AKIA").unwrap();
    assert!(id.len() == 16 && id.bytes().all(|b| KEY_ID_ALPHABET.contains(&b)), "{id}");
    let secret = new.secret_access_key.as_str();
    assert!(secret.len() == 40 && secret.bytes().all(|b| SECRET_ALPHABET.contains(&b)));
    assert!(!format!("{new:?}").contains(secret));

    fixture.reopen().await;
    let record = fixture.registry.authenticate_access_key(&new.access_key_id).await.unwrap().unwrap();
    assert_eq!(*record.secret, *new.secret_access_key);
    assert!(record.active);
    assert_eq!(record.caller.identity.arn, format!("arn:aws:iam::{}:root", new.account_id));
    assert!(!format!("{record:?}").contains(secret));
    assert!(fixture.registry.authenticate_access_key("AKIAUNKNOWN").await.unwrap().is_none());
}

#[tokio::test]
async fn an_account_is_made_once() {
    let fixture = Fixture::new().await;
    let id = "210987654321".parse().unwrap();
    fixture.registry.create_account(Some(id)).await.unwrap();
    let again = fixture.registry.create_account(Some(id)).await.unwrap_err();
    assert!(matches!(again, RegistryError::AlreadyExists(_)), "{again}");
    let nobody = "000000000000".parse().unwrap();
    assert!(matches!(fixture.registry.create_access_key(nobody).await, Err(RegistryError::NotFound(_))));
    assert!(matches!(fixture.registry.list_access_keys(nobody).await, Err(RegistryError::NotFound(_))));
    assert!(matches!(fixture.registry.delete_access_key("AKIA").await, Err(RegistryError::NotFound(_))));
    assert!(matches!(fixture.registry.root_caller(nobody).await, Err(RegistryError::NotFound(_))));
}

#[tokio::test]
async fn a_password_lives_and_dies_with_its_key() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let new = registry.ensure_default_account().await.unwrap().unwrap();
    let caller = registry.root_caller(new.account_id).await.unwrap();
    let (password, expires_at) = registry.issue_token(&caller, &region(), None);
    assert_eq!(expires_at, fixture.clock.now().plus(Duration::from_secs(12 * 3600)));
    assert!(
        registry.authenticate_password_now(&password, &region()).is_none(),
        "the key is not in memory yet"
    );

    let known = registry.authenticate_password(&password, &region()).await.unwrap();
    assert_eq!(known.identity, caller.identity);
    assert!(registry.authenticate_password_now(&password, &region()).unwrap().is_ok());
    assert_eq!(registry.password_region(&password), Some(region()));

    registry.set_access_key_active(&new.access_key_id, false).await.unwrap();
    let refused = registry.authenticate_password(&password, &region()).await;
    assert!(matches!(refused, Err(PasswordError::Invalid)), "{refused:?}");
    let refused = registry.authenticate_password_now(&password, &region()).unwrap();
    assert!(matches!(refused, Err(PasswordError::Invalid)), "{refused:?}");
    assert!(matches!(registry.root_caller(new.account_id).await, Err(RegistryError::NotFound(_))));

    registry.set_access_key_active(&new.access_key_id, true).await.unwrap();
    registry.authenticate_password(&password, &region()).await.unwrap();
    registry.delete_access_key(&new.access_key_id).await.unwrap();
    let refused = registry.authenticate_password(&password, &region()).await;
    assert!(matches!(refused, Err(PasswordError::Invalid)), "{refused:?}");
}

#[tokio::test]
async fn a_password_is_for_one_region_and_one_time() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let new = registry.ensure_default_account().await.unwrap().unwrap();
    let caller = registry.root_caller(new.account_id).await.unwrap();
    let (password, _) = registry.issue_token(&caller, &region(), Some(Duration::from_secs(60)));
    let elsewhere = registry.authenticate_password(&password, &"eu-west-1".parse().unwrap()).await;
    assert!(matches!(elsewhere, Err(PasswordError::Invalid)), "{elsewhere:?}");
    for forged in ["", "x", &password[1..], &"A".repeat(70_000)] {
        let refused = registry.authenticate_password(forged, &region()).await;
        assert!(matches!(refused, Err(PasswordError::Invalid)), "{refused:?}");
    }
    registry.authenticate_password(&password, &region()).await.unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    for _ in 0..2 {
        let over = registry.authenticate_password(&password, &region()).await;
        assert!(matches!(over, Err(PasswordError::Expired)), "{over:?}");
    }
    let elsewhere = registry.authenticate_password(&password, &"eu-west-1".parse().unwrap()).await;
    assert!(matches!(elsewhere, Err(PasswordError::Invalid)), "a stranger is not told that it was genuine");
}

#[tokio::test]
async fn stores_that_do_not_belong_together_are_refused() {
    let fixture = Fixture::new().await;
    let marker = fixture.objects.deployment_marker().await.unwrap().expect("written at the first start");
    let id = ObjectId::random();
    fixture.objects.create(id).await.unwrap().finish().await.unwrap();
    let refused = |error: RegistryError| {
        let text = error.to_string();
        assert!(text.contains("belongs to"), "{text}");
        text
    };

    // The metadata was lost, the objects are still there.
    let empty = tempfile::tempdir().unwrap();
    let Err(error) = open(&empty, &fixture.options, &fixture.clock, &fixture.objects, &fixture.root).await
    else {
        panic!("opened");
    };
    assert!(refused(error).contains(&marker));

    // The metadata is that of another deployment.
    let other = Fixture::new().await;
    other.registry.close().await;
    let Err(error) = open(&other.dir, &other.options, &other.clock, &fixture.objects, &other.root).await
    else {
        panic!("opened");
    };
    refused(error);

    // Objects that nobody has marked.
    let unmarked = MemoryObjects::new();
    unmarked.create(ObjectId::random()).await.unwrap().finish().await.unwrap();
    fixture.registry.close().await;
    let Err(error) = open(&fixture.dir, &fixture.options, &fixture.clock, &unmarked, &fixture.root).await
    else {
        panic!("opened");
    };
    refused(error);
}

#[tokio::test]
async fn another_root_key_is_refused_at_the_start() {
    let fixture = Fixture::new().await;
    fixture.registry.close().await;
    let other = DataKey::generate().unwrap();
    let Err(error) = open(&fixture.dir, &fixture.options, &fixture.clock, &fixture.objects, &other).await
    else {
        panic!("opened");
    };
    assert!(error.to_string().contains("root key"), "{error}");
}
