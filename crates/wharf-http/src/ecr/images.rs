//! PutImage, BatchGetImage, BatchDeleteImage, ListImages, DescribeImages, ListImageReferrers.

use bytes::Bytes;
use serde_json::Value;
use wharf_registry::{
    Authorized, Image, ImageFilter, ImageId, ImageRef, ImageStatus, PageRequest, PutImage as NewImage,
    RegistryError,
};
use wharf_types::{Digest, Manifest, MediaType, RepositoryRef, Tag};

use super::output::{self, Members};
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text};

/// Characters of a manifest.
const MANIFEST: Text = Text::length(1, 4_194_304);

/// `PutImage`
pub(super) struct PutImage {
    manifest: Bytes,
    media_type: Option<MediaType>,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Call for PutImage {
    const ACTIONS: &'static [&'static str] = &["ecr:PutImage"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let manifest = Bytes::from(input.required_text("imageManifest", &MANIFEST)?);
        let media_type = match input.text("imageManifestMediaType", &Text::ANY)? {
            None => None,
            Some(text) => Some(MediaType::parse(&text).ok_or_else(|| {
                input.refuse("imageManifestMediaType", &text, "Member must be a media type")
            })?),
        };
        let tag = input.parsed("imageTag", &shape::NEW_IMAGE_TAG)?;
        let digest = input.text("imageDigest", &shape::LAYER_DIGEST)?;
        let digest = digest.map(|text| shape::digest(&input, "imageDigest", &text)).transpose()?;
        Ok((Self { manifest, media_type, tag, digest }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let Self { manifest, media_type, tag, digest } = self;
        let manifest = match Manifest::parse(manifest, media_type.as_ref()) {
            Ok(manifest) => manifest,
            Err(error) => {
                // A repository that is not there is told before what is wrong with the manifest.
                request.registry().repository(&target).await?;
                return Err(RegistryError::from(error).into());
            }
        };
        let new = NewImage { manifest: manifest.clone(), digest, tags: tag.iter().cloned().collect() };
        let outcome = request.registry().put_image(&target, new).await?;
        if !outcome.changed {
            let repository = target.target().clone();
            return Err(RegistryError::ImageAlreadyExists { repository, digest: outcome.digest, tag }.into());
        }
        let image = Image {
            id: ImageRef { digest: outcome.digest, tag },
            manifest: manifest.bytes().clone(),
            media_type: manifest.media_type().clone(),
        };
        Ok(Members::default().with("image", shown(&target, &image)).answer())
    }
}

/// `Image`. A manifest is JSON, hence text.
fn shown(repository: &RepositoryRef, image: &Image) -> Value {
    output::of_repository(repository)
        .with("imageId", output::image_ref(&image.id))
        .with("imageManifest", String::from_utf8_lossy(&image.manifest))
        .with("imageManifestMediaType", image.media_type.as_str())
        .into()
}

/// `BatchGetImage`
pub(super) struct BatchGetImage {
    ids: Vec<ImageId>,
    accepted: Vec<MediaType>,
}

impl Call for BatchGetImage {
    const ACTIONS: &'static [&'static str] = &["ecr:BatchGetImage"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let ids = shape::image_ids(&mut input)?;
        let ids = input.required("imageIds", ids)?;
        let accepted = input.texts("acceptedMediaTypes", 1..=100, &Text::ANY)?.unwrap_or_default();
        // What is no media type is none that an image could have.
        let accepted = accepted.iter().filter_map(|text| MediaType::parse(text)).collect();
        Ok((Self { ids, accepted }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let (images, failures) =
            request.registry().batch_get_images(&target, &self.ids, &self.accepted).await?;
        let images: Vec<Value> = images.iter().map(|image| shown(&target, image)).collect();
        let failures: Vec<Value> = failures.into_iter().map(output::image_failure).collect();
        Ok(Members::default().with("images", images).with("failures", failures).answer())
    }
}

/// `BatchDeleteImage`
pub(super) struct BatchDeleteImage {
    ids: Vec<ImageId>,
}

impl Call for BatchDeleteImage {
    const ACTIONS: &'static [&'static str] = &["ecr:BatchDeleteImage"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let ids = shape::image_ids(&mut input)?;
        Ok((Self { ids: input.required("imageIds", ids)? }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let (deleted, failures) = request.registry().delete_images(&target, &self.ids).await?;
        let deleted: Vec<Value> = deleted.iter().map(output::image_ref).collect();
        let failures: Vec<Value> = failures.into_iter().map(output::image_failure).collect();
        Ok(Members::default().with("imageIds", deleted).with("failures", failures).answer())
    }
}

/// `ListImages`
pub(super) struct ListImages {
    filter: ImageFilter,
    page: PageRequest,
}

impl Call for ListImages {
    const ACTIONS: &'static [&'static str] = &["ecr:ListImages"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let page = shape::page(&mut input, 100, 1000)?;
        Ok((Self { filter: shape::image_filter(&mut input)?, page }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let found = request.registry().list_images(&target, self.filter, self.page).await?;
        Ok(output::page("imageIds", found, |image| output::image_ref(&image)))
    }
}

/// `DescribeImages`
pub(super) struct DescribeImages {
    filter: ImageFilter,
    wanted: Wanted,
}

enum Wanted {
    Ids(Vec<ImageId>),
    Page(PageRequest),
}

impl Call for DescribeImages {
    const ACTIONS: &'static [&'static str] = &["ecr:DescribeImages"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let ids = shape::image_ids(&mut input)?;
        let page = shape::page_unless(&mut input, ids.is_some().then_some("imageIds"))?;
        let filter = shape::image_filter(&mut input)?;
        let wanted = match (ids, page) {
            (_, Some(page)) => Wanted::Page(page),
            (ids, None) => Wanted::Ids(ids.unwrap_or_default()),
        };
        Ok((Self { filter, wanted }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        match self.wanted {
            Wanted::Ids(ids) => {
                let found = request.registry().describe_images_by_id(&target, &ids).await?;
                let shown: Vec<Value> =
                    found.into_iter().map(|image| output::image_detail(&target, image)).collect();
                Ok(Members::default().with("imageDetails", shown).answer())
            }
            Wanted::Page(page) => {
                let found = request.registry().describe_images(&target, self.filter, page).await?;
                Ok(output::page("imageDetails", found, |image| output::image_detail(&target, image)))
            }
        }
    }
}

/// `ListImageReferrers`
pub(super) struct ListImageReferrers {
    subject: Digest,
    artifact_types: Vec<String>,
    status: Option<ImageStatus>,
    page: PageRequest,
}

impl Call for ListImageReferrers {
    /// There is no action of the operation's own name.
    const ACTIONS: &'static [&'static str] = &["ecr:BatchGetImage"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let subject = input.structure("subjectId")?;
        let mut subject = input.required("subjectId", subject)?;
        let text = subject.required_text("imageDigest", &shape::LAYER_DIGEST)?;
        let subject = shape::digest(&subject, "imageDigest", &text)?;
        let (artifact_types, status) = match input.structure("filter")? {
            Some(mut filter) => {
                let types = filter.texts("artifactTypes", 0..=5, &Text::length(1, 255))?;
                (types.unwrap_or_default(), shape::status(&mut filter, "artifactStatus")?)
            }
            None => (Vec::new(), Some(ImageStatus::Active)),
        };
        let page = shape::page(&mut input, 20, 50)?;
        Ok((Self { subject, artifact_types, status, page }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let Self { subject, artifact_types, status, page } = self;
        let found =
            request.registry().list_referrers(&target, &subject, &artifact_types, status, page).await?;
        Ok(output::page("referrers", found, |referrer| {
            let annotations: serde_json::Map<String, Value> =
                referrer.annotations.into_iter().map(|(key, value)| (key, value.into())).collect();
            Members::default()
                .with("digest", referrer.digest.to_string())
                .with("mediaType", referrer.media_type.as_str())
                .maybe("artifactType", referrer.artifact_type)
                .with("size", referrer.size)
                .maybe("annotations", (!annotations.is_empty()).then_some(annotations))
                .with("artifactStatus", referrer.status.as_str())
                .into()
        }))
    }
}
