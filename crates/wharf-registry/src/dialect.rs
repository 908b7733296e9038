//! Where ECR refuses or changes what the OCI specification allows. One row per difference; the documentation's table
//! is made from [`DIFFERENCES`].

/// Which of the two a registry follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The OCI specification; the conformance suite passes.
    #[default]
    Spec,
    /// ECR's refusals exactly.
    Ecr,
}

/// One difference between the two dialects.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// What it is about.
    pub what: &'static str,
    /// What `spec` does.
    pub spec: &'static str,
    /// What `ecr` does.
    pub ecr: &'static str,
}

impl Dialect {
    /// The setting's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Ecr => "ecr",
        }
    }

    /// `DELETE /v2/<name>/blobs/<digest>`.
    pub fn deletes_blobs(self) -> bool {
        self == Self::Spec
    }

    /// A whole blob in one `POST …?digest=`.
    pub fn single_post_upload(self) -> bool {
        self == Self::Spec
    }

    /// Chunks but the last must have 5 MiB.
    pub fn minimum_chunk(self) -> u64 {
        match self {
            Self::Spec => 0,
            Self::Ecr => 5 << 20,
        }
    }

    /// `BLOB_MOUNTING` of an account that never set it.
    pub fn blob_mounting_default(self) -> bool {
        self == Self::Spec
    }

    /// A mounted blob must be named by a manifest of its source.
    pub fn mount_needs_manifest(self) -> bool {
        self == Self::Ecr
    }

    /// A mount without `from` searches the caller's other repositories.
    pub fn automatic_mount(self) -> bool {
        self == Self::Spec
    }

    /// Default and largest page of `tags/list` and `_catalog`; `None` = unpaged unless asked, up to what an answer
    /// made in memory may take.
    pub fn list_page(self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Spec => (None, None),
            Self::Ecr => (Some(100), Some(1000)),
        }
    }

    /// Pulls by tag convert between Docker schema 2 and OCI when `Accept` lacks the stored type.
    pub fn converts_manifests(self) -> bool {
        self == Self::Ecr
    }
}

/// Every difference, for the documentation and its test.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "`DELETE /v2/<name>/blobs/<digest>`",
        spec: "202, the repository forgets the blob",
        ecr: "405 `UNSUPPORTED`",
    },
    Difference {
        what: "`POST /v2/<name>/blobs/uploads/?digest=` with the whole blob",
        spec: "201, stored",
        ecr: "202, an ordinary upload session; the body is not read",
    },
    Difference {
        what: "Chunked uploads",
        spec: "chunks of any size",
        ecr: "a chunk that is not the last and has less than 5 MiB fails the upload when it is completed",
    },
    Difference {
        what: "`BLOB_MOUNTING` of an account that has not set it",
        spec: "`ENABLED`",
        ecr: "`DISABLED`",
    },
    Difference {
        what: "Mounting a blob",
        spec: "any blob of a readable repository in the same key domain",
        ecr: "only one that a manifest of the source names",
    },
    Difference {
        what: "Mounting without `from`",
        spec: "the caller's other repositories in the same key domain are searched",
        ecr: "202, an ordinary upload session",
    },
    Difference {
        what: "`tags/list` and `_catalog`",
        spec: "everything, streamed, or pages of `n`, at most 10,000; `last` is a name",
        ecr: "pages of 100; `n` over 1000 is 405 `UNSUPPORTED`; `last` is opaque",
    },
    Difference {
        what: "`DELETE /v2/<name>/manifests/<tag>`",
        spec: "202, the tag goes and the manifest stays",
        ecr: "202, the image goes with its last tag",
    },
    Difference {
        what: "Pull by tag when `Accept` lacks the stored type",
        spec: "the stored manifest",
        ecr: "Docker schema 2 and OCI images are converted into each other",
    },
];
