//! `GET /v2/_catalog`.

use wharf_registry::Authorized;
use wharf_types::RegistryRef;

use super::Call;
use super::paging::Paging;
use super::routes::Outcome;

/// `GET /v2/_catalog` - Docker's registry API; ECR has it. Needs `ecr:DescribeRepositories` on `*`.
pub(crate) async fn list(call: Call<'_>, at: Authorized<RegistryRef>) -> Outcome {
    let registry = call.registry();
    let paging = Paging::of(&call.query(), registry.options().dialect)?;
    let (names, more) = registry.catalog(&at, paging.after.as_deref(), paging.limit).await?;
    Ok(paging.answer("{\"repositories\":[", names.iter().map(|name| name.as_str()), more, "/v2/_catalog"))
}
