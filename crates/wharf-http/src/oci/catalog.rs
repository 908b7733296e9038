//! `GET /v2/_catalog`.

use wharf_registry::Authorized;
use wharf_types::RegistryRef;

use super::Call;
use super::paging::{Paging, STREAMED};
use super::routes::Outcome;
use super::{answer, lists};

/// `GET /v2/_catalog` - Docker's registry API; ECR has it. Needs `ecr:DescribeRepositories` on `repository/*`.
pub(crate) async fn list(call: Call<'_>, at: Authorized<RegistryRef>) -> Outcome {
    const HEAD: &str = "{\"repositories\":[";
    let registry = call.registry();
    let paging = Paging::of(&call.query(), registry.options().dialect)?;
    let limit = paging.limit.unwrap_or(STREAMED);
    let page = registry.catalog(&at, paging.after.as_deref(), limit).await?;
    if page.more && paging.limit.is_none() {
        let registry = registry.clone();
        return Ok(lists::streamed(HEAD, page, move |last| {
            let (registry, at) = (registry.clone(), at.clone());
            async move { registry.catalog(&at, Some(&last), STREAMED).await }
        }));
    }
    Ok(lists::written(&paging.write(HEAD, &page, "/v2/_catalog"), answer::JSON))
}
