//! BatchCheckLayerAvailability, GetDownloadUrlForLayer, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use wharf_registry::{Authorized, LayerCheck, LayerState, RegistryError};
use wharf_types::{Digest, RepositoryRef, UploadId};

use super::output::{self, Members};
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Text};

/// `BatchCheckLayerAvailability`
pub(super) struct BatchCheckLayerAvailability {
    digests: Vec<String>,
}

impl Call for BatchCheckLayerAvailability {
    const ACTIONS: &'static [&'static str] = &["ecr:BatchCheckLayerAvailability"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        // A malformed digest is a failure in the answer, not an exception.
        let digests = input.required_texts("layerDigests", 1..=100, &Text::length(0, 1000))?;
        Ok((Self { digests }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let checked = request.registry().check_layers(&target, &self.digests).await?;
        let (mut layers, mut failures): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
        for check in checked {
            let LayerCheck { digest, state } = check;
            let failure = |code: &str, reason: &str| json!({"layerDigest": digest, "failureCode": code, "failureReason": reason});
            match state {
                LayerState::Available { size, media_type } => layers.push(
                    Members::default()
                        .with("layerDigest", digest)
                        .with("layerAvailability", "AVAILABLE")
                        .with("layerSize", size)
                        .maybe("mediaType", media_type.map(|media_type| media_type.to_string()))
                        .into(),
                ),
                LayerState::Archived { size } => layers
                    .push(json!({"layerDigest": digest, "layerAvailability": "ARCHIVED", "layerSize": size})),
                LayerState::Unavailable => {
                    layers.push(json!({"layerDigest": digest, "layerAvailability": "UNAVAILABLE"}));
                }
                LayerState::InvalidDigest(reason) => failures.push(failure("InvalidLayerDigest", &reason)),
                LayerState::MissingDigest => failures.push(failure(
                    "MissingLayerDigest",
                    "Invalid request parameters: layer digest cannot be empty",
                )),
            }
        }
        Ok(Members::default().with("layers", layers).with("failures", failures).answer())
    }
}

/// `GetDownloadUrlForLayer`
pub(super) struct GetDownloadUrlForLayer(Digest);

impl Call for GetDownloadUrlForLayer {
    const ACTIONS: &'static [&'static str] = &["ecr:GetDownloadUrlForLayer"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let text = input.required_text("layerDigest", &shape::LAYER_DIGEST)?;
        Ok((Self(shape::digest(&input, "layerDigest", &text)?), repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let token = request.registry().layer_download_token(&target, &self.0).await?;
        let url = request.own_url(&format!("{}{token}", crate::faces::DOWNLOAD_PREFIX));
        Ok(Members::default().with("downloadUrl", url).with("layerDigest", self.0.to_string()).answer())
    }
}

/// `InitiateLayerUpload`
pub(super) struct InitiateLayerUpload;

impl Call for InitiateLayerUpload {
    const ACTIONS: &'static [&'static str] = &["ecr:InitiateLayerUpload"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        Ok((Self, shape::repository(&mut input, request)?))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let upload = request.registry().start_upload(&target).await?;
        Ok(Members::default()
            .with("uploadId", upload.id.to_string())
            .with("partSize", upload.part_size)
            .answer())
    }
}

/// `UploadLayerPart`
pub(super) struct UploadLayerPart {
    upload: UploadId,
    first: u64,
    last: u64,
    /// Base64 still: decoding a large part takes long enough to be done off the reactor.
    blob: String,
}

impl Call for UploadLayerPart {
    const ACTIONS: &'static [&'static str] = &["ecr:UploadLayerPart"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let upload = input.required_parsed("uploadId", &shape::UPLOAD_ID)?;
        let first = input.required_position("partFirstByte")?;
        let last = input.required_position("partLastByte")?;
        let blob = input.required_base64("layerPartBlob")?;
        Ok((Self { upload, first, last, blob }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let Self { upload, first, last, blob } = self;
        let decoded = tokio::task::spawn_blocking(move || STANDARD.decode(blob)).await;
        let part = decoded
            .map_err(|_| AwsError::ShuttingDown)?
            .map_err(|_| AwsError::Serialization("The member 'layerPartBlob' is not valid Base64".into()))?;
        let progress =
            request.registry().upload_part(&target, upload, first, last, Bytes::from(part)).await?;
        Ok(output::of_repository(&target)
            .with("uploadId", upload.to_string())
            .maybe("lastByteReceived", progress.received.checked_sub(1))
            .answer())
    }
}

/// `CompleteLayerUpload`
pub(super) struct CompleteLayerUpload {
    upload: UploadId,
    digests: Vec<Digest>,
}

impl Call for CompleteLayerUpload {
    const ACTIONS: &'static [&'static str] = &["ecr:CompleteLayerUpload"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let upload = input.required_parsed("uploadId", &shape::UPLOAD_ID)?;
        let texts = input.required_texts("layerDigests", 1..=100, &shape::LAYER_DIGEST)?;
        let digests =
            texts.iter().map(|text| shape::digest(&input, "layerDigests", text)).collect::<Result<_, _>>()?;
        Ok((Self { upload, digests }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let blob = request.registry().complete_layer_upload(&target, self.upload, &self.digests).await?;
        if blob.already_existed {
            return Err(RegistryError::LayerAlreadyExists(blob.digest).into());
        }
        Ok(output::of_repository(&target)
            .with("uploadId", self.upload.to_string())
            .with("layerDigest", blob.digest.to_string())
            .answer())
    }
}
