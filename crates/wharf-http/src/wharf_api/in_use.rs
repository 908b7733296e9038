//! ReportImagesInUse, ReleaseImagesInUse, ListImagesInUse.

use std::time::Duration;

use serde_json::json;
use wharf_registry::{Authorized, InUseReport, PageRequest};
use wharf_types::{Digest, RegistryRef};

use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Pattern, Style, Text};
use crate::ecr::output::{self, Members, time};
use crate::ecr::shape;

/// Who runs something.
const HOLDER: Text = Text::length(1, 256)
    .matching(Pattern { text: r"^[^\x00-\x1f\x7f]+$", matches: |text| !text.chars().any(char::is_control) });

/// An image's digest.
const DIGEST: Text = Text::ANY.matching(Pattern {
    text: "^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$",
    matches: |text| text.parse::<Digest>().is_ok(),
});

/// `ReportImagesInUse {holder, imageDigests, lifetimeSeconds}`: answers `{holder, expiresAt}`.
pub(super) struct ReportImagesInUse(InUseReport);

impl Call for ReportImagesInUse {
    const ACTIONS: &'static [&'static str] = &["wharf:ReportImagesInUse"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let holder = input.required_text("holder", &HOLDER)?;
        let digests = input.required_texts("imageDigests", 1..=1000, &DIGEST)?;
        let seconds = input.integer("lifetimeSeconds", 1..=InUseReport::LONGEST.as_secs().cast_signed())?;
        let seconds = input.required("lifetimeSeconds", seconds)?;
        // The pattern has let only digests through.
        let digests = digests.iter().filter_map(|digest| digest.parse().ok()).collect();
        let lifetime = Duration::from_secs(seconds.unsigned_abs());
        Ok((Self(InUseReport { holder, digests, lifetime }), request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let holder = self.0.holder.clone();
        let expires_at = request.registry().report_in_use(&target, self.0).await?;
        Ok(Members::default().with("holder", holder).with("expiresAt", time(expires_at)).answer())
    }
}

/// `ReleaseImagesInUse {holder, imageDigests}`, without digests of all the holder's: answers `{holder, releasedImageCount}`.
pub(super) struct ReleaseImagesInUse {
    holder: String,
    digests: Option<Vec<Digest>>,
}

impl Call for ReleaseImagesInUse {
    const ACTIONS: &'static [&'static str] = &["wharf:ReleaseImagesInUse"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let mut input = input.style(Style::Validation);
        let holder = input.required_text("holder", &HOLDER)?;
        let digests = input.texts("imageDigests", 1..=1000, &DIGEST)?;
        // The pattern has let only digests through.
        let digests =
            digests.map(|digests| digests.iter().filter_map(|digest| digest.parse().ok()).collect());
        Ok((Self { holder, digests }, request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let registry = request.registry();
        let released = registry.release_in_use(&target, &self.holder, self.digests.as_deref()).await?;
        Ok(Members::default().with("holder", self.holder).with("releasedImageCount", released).answer())
    }
}

/// `ListImagesInUse {maxResults, nextToken}`: answers `{images: [{imageDigest, holders}], nextToken}` in order of digest.
pub(super) struct ListImagesInUse(PageRequest);

impl Call for ListImagesInUse {
    const ACTIONS: &'static [&'static str] = &["wharf:ListImagesInUse"];
    type Target = RegistryRef;

    fn parse(input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let page = shape::page(&mut input.style(Style::Validation), 100, 1000)?;
        Ok((Self(page), request.registry_of(None)))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let images = request.registry().images_in_use(&target, self.0).await?;
        Ok(output::page(
            "images",
            images,
            |image| json!({"imageDigest": image.digest, "holders": image.holders}),
        ))
    }
}
