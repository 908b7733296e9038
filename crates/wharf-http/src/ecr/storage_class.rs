//! UpdateImageStorageClass.

use wharf_registry::{Authorized, ImageId, StorageClass};
use wharf_types::RepositoryRef;

use super::output;
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Style, Text};

/// `TargetStorageClass`.
const CLASS: Text = Text::one_of(&["STANDARD", "ARCHIVE"]);

/// `UpdateImageStorageClass`
pub(super) struct UpdateImageStorageClass {
    image: ImageId,
    class: StorageClass,
}

impl Call for UpdateImageStorageClass {
    const ACTIONS: &'static [&'static str] = &["ecr:UpdateImageStorageClass"];
    type Target = RepositoryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let repository = shape::repository(&mut input, request)?;
        let image = shape::image_id(&mut input)?;
        let class = match input.required_text("targetStorageClass", &CLASS)?.as_str() {
            "ARCHIVE" => StorageClass::Archive,
            _ => StorageClass::Standard,
        };
        Ok((Self { image, class }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let (image, status) =
            request.registry().update_image_storage_class(&target, &self.image, self.class).await?;
        Ok(output::of_repository(&target)
            .with("imageId", output::image_ref(&image))
            .with("imageStatus", status.as_str())
            .answer())
    }
}
