//! What no server is needed for; the contract is kept on real ones in `tests/cloud`.

use object_store::memory::InMemory;

use super::*;

async fn in_memory() -> (Arc<InMemory>, CloudObjects) {
    let bucket = Arc::new(InMemory::new());
    let prefix = Path::from("some/prefix");
    let objects = CloudObjects::over(Arc::clone(&bucket) as Arc<dyn Bucket>, prefix).await.unwrap();
    (bucket, objects)
}

#[tokio::test]
async fn a_prefix_of_another_form_is_left_alone() {
    let (bucket, _) = in_memory().await;
    bucket.put(&Path::from("some/prefix/layout"), "wharf objects 2\n".into()).await.unwrap();
    let refused = CloudObjects::over(bucket, Path::from("some/prefix")).await.map(|_| ());
    assert!(matches!(refused, Err(ObjectError::Layout(text)) if text == "wharf objects 2\n"));
}
