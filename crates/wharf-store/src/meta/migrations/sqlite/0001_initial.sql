-- The first schema. Times are microseconds since the epoch; JSON is kept as text and never queried.
-- References are RESTRICT (the default): what is named cannot go away.

CREATE TABLE deployment (
    id         TEXT    NOT NULL PRIMARY KEY,
    created_at BIGINT  NOT NULL
);

CREATE TABLE accounts (
    id         TEXT    NOT NULL PRIMARY KEY,
    created_at BIGINT  NOT NULL
);

-- Root keys for now; the IAM issue adds the principals they may belong to.
CREATE TABLE access_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL REFERENCES accounts (id),
    secret     BLOB    NOT NULL,            -- sealed under the root key
    active     BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL
);
CREATE INDEX access_keys_by_account ON access_keys (account, id);

-- Versions of keys that wrap or seal others, themselves wrapped by the root key.
-- scope: 'registry/<account>/<region>', 'kms/<account>/<region>/<key id>', 'seal/<purpose>'.
CREATE TABLE wrapping_keys (
    scope      TEXT    NOT NULL,
    version    BIGINT  NOT NULL,
    material   BLOB    NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (scope, version)
);

CREATE TABLE kms_keys (
    account      TEXT    NOT NULL,
    region       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    state        TEXT    NOT NULL,          -- Enabled | Disabled | PendingDeletion
    manager      TEXT    NOT NULL,          -- CUSTOMER | AWS
    policy       TEXT    NOT NULL,
    tags         TEXT    NOT NULL,          -- JSON
    created_at   BIGINT  NOT NULL,
    deletion_at  BIGINT,
    PRIMARY KEY (account, region, id)
);

CREATE TABLE kms_aliases (
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    name       TEXT    NOT NULL,            -- 'alias/…'
    key_id     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    PRIMARY KEY (account, region, name),
    FOREIGN KEY (account, region, key_id) REFERENCES kms_keys (account, region, id)
);

CREATE TABLE settings (
    account TEXT NOT NULL,
    region  TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (account, region, name)
);

CREATE TABLE pull_time_exclusions (
    account       TEXT   NOT NULL,
    region        TEXT   NOT NULL,
    principal_arn TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (account, region, principal_arn)
);

-- One physical copy of a blob per key domain.
CREATE TABLE key_domains (
    id              INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account         TEXT    NOT NULL,
    region          TEXT    NOT NULL,
    encryption_type TEXT    NOT NULL,       -- AES256 | KMS | KMS_DSSE
    kms_key         TEXT    NOT NULL,       -- ARN, '' for AES256
    UNIQUE (account, region, encryption_type, kms_key)
);

-- Ids are never used twice: caches and tombstones name repositories by them.
CREATE TABLE repositories (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account      TEXT    NOT NULL,
    region       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,          -- private | public | deleted (contents being dropped; name@id)
    name         TEXT    NOT NULL,
    mutability   TEXT    NOT NULL,
    exclusions   TEXT    NOT NULL,          -- JSON list of filters
    scan_on_push BOOLEAN NOT NULL,
    domain_id    BIGINT  NOT NULL REFERENCES key_domains (id),
    images       BIGINT  NOT NULL,          -- manifests it holds, for the quota
    created_at   BIGINT  NOT NULL,
    UNIQUE (account, region, kind, name)
);

CREATE TABLE repository_tags (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    key           TEXT   NOT NULL,
    value         TEXT   NOT NULL,
    PRIMARY KEY (repository_id, key)
);

-- Bytes under a key that is never used twice: writing → live → trashed → deleting, or quarantined.
CREATE TABLE objects (
    id          TEXT    NOT NULL PRIMARY KEY,
    state       TEXT    NOT NULL,
    inline      BOOLEAN NOT NULL,           -- content is here, not in the object store
    domain_id   BIGINT  NOT NULL REFERENCES key_domains (id),
    digest      TEXT,                       -- known once live
    size        BIGINT  NOT NULL,           -- plaintext bytes
    stored_size BIGINT  NOT NULL,
    keys        BLOB,                       -- wrapped content keys; NULL = stored plain
    content     BLOB,                       -- inline only, sealed
    lease_until BIGINT,                     -- writing only
    trashed_at  BIGINT,
    created_at  BIGINT  NOT NULL
);
CREATE INDEX objects_writing ON objects (lease_until) WHERE state = 'writing';
CREATE INDEX objects_trashed ON objects (trashed_at) WHERE state = 'trashed';
CREATE INDEX objects_deleting ON objects (id) WHERE state = 'deleting';
CREATE INDEX objects_by_digest ON objects (domain_id, digest) WHERE state IN ('trashed', 'quarantined');

CREATE TABLE blobs (
    domain_id BIGINT NOT NULL REFERENCES key_domains (id),
    digest    TEXT   NOT NULL,
    size      BIGINT NOT NULL,
    object_id TEXT   NOT NULL REFERENCES objects (id),
    PRIMARY KEY (domain_id, digest)
);
CREATE UNIQUE INDEX blobs_by_object ON blobs (object_id);

-- Which repository may serve which blob.
CREATE TABLE repository_blobs (
    repository_id      BIGINT NOT NULL REFERENCES repositories (id),
    digest             TEXT   NOT NULL,
    domain_id          BIGINT NOT NULL,
    linked_at          BIGINT NOT NULL,
    unreferenced_since BIGINT,              -- NULL while a manifest names it
    PRIMARY KEY (repository_id, digest),
    FOREIGN KEY (domain_id, digest) REFERENCES blobs (domain_id, digest)
);
CREATE INDEX repository_blobs_by_blob ON repository_blobs (domain_id, digest);
CREATE INDEX repository_blobs_unreferenced ON repository_blobs (unreferenced_since)
    WHERE unreferenced_since IS NOT NULL;

CREATE TABLE manifests (
    repository_id BIGINT  NOT NULL REFERENCES repositories (id),
    digest        TEXT    NOT NULL,
    media_type    TEXT    NOT NULL,
    artifact_type TEXT,
    subject       TEXT,                     -- need not exist
    annotations   TEXT,                     -- JSON; kept for referrers only
    size          BIGINT  NOT NULL,         -- of the manifest itself
    content_size  BIGINT  NOT NULL,         -- configuration and layers; an index: its largest child
    status        TEXT    NOT NULL,         -- ACTIVE | ARCHIVED | ACTIVATING
    pushed_at     BIGINT  NOT NULL,
    pulled_at     BIGINT,
    archived_at   BIGINT,
    activated_at  BIGINT,
    keys          BLOB,                     -- wrapped content keys; NULL = stored plain
    seal_id       TEXT    NOT NULL,         -- object id the content is sealed for
    content       BLOB    NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifests_inactive ON manifests (repository_id, digest) WHERE status <> 'ACTIVE';
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE manifest_blobs (
    repository_id BIGINT NOT NULL,
    manifest      TEXT   NOT NULL,
    blob          TEXT   NOT NULL,
    PRIMARY KEY (repository_id, manifest, blob),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, blob) REFERENCES repository_blobs (repository_id, digest)
);
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (repository_id, blob);

CREATE TABLE manifest_children (
    repository_id BIGINT NOT NULL,
    parent        TEXT   NOT NULL,
    child         TEXT   NOT NULL,
    PRIMARY KEY (repository_id, parent, child),
    FOREIGN KEY (repository_id, parent) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, child) REFERENCES manifests (repository_id, digest)
);
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child);

-- What sparse manifests name and the repository lacks; an edge from the moment it arrives.
CREATE TABLE missing_references (
    repository_id BIGINT NOT NULL,
    manifest      TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    kind          TEXT   NOT NULL,          -- blob | manifest
    PRIMARY KEY (repository_id, digest, kind, manifest),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest)
);
CREATE INDEX missing_references_by_manifest ON missing_references (repository_id, manifest);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL,
    name          TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
);
CREATE INDEX tags_by_digest ON tags (repository_id, digest, name);

CREATE TABLE uploads (
    id            TEXT    NOT NULL PRIMARY KEY,
    repository_id BIGINT  NOT NULL REFERENCES repositories (id),
    object_id     TEXT    NOT NULL REFERENCES objects (id),
    received      BIGINT  NOT NULL,         -- acknowledged bytes
    generation    BIGINT  NOT NULL,         -- compare-and-set with `received`
    parts         BIGINT  NOT NULL,
    last_part     BIGINT  NOT NULL,         -- size of the newest part
    short_part    BOOLEAN NOT NULL,         -- a part that was not the last is under 5 MiB
    state         BLOB,                     -- sealed tail, hash state, writer state; NULL before the first byte
    started_at    BIGINT  NOT NULL,
    expires_at    BIGINT  NOT NULL
);
CREATE INDEX uploads_by_repository ON uploads (repository_id);
CREATE INDEX uploads_by_expiry ON uploads (expires_at);

-- What a deleted image was, until the trash window ends. Blobs are found by domain and digest.
CREATE TABLE deleted_manifests (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    repository_id BIGINT  NOT NULL,
    account       TEXT    NOT NULL,
    region        TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    domain_id     BIGINT  NOT NULL REFERENCES key_domains (id),
    digest        TEXT    NOT NULL,
    media_type    TEXT    NOT NULL,
    artifact_type TEXT,
    subject       TEXT,
    annotations   TEXT,
    size          BIGINT  NOT NULL,
    content_size  BIGINT  NOT NULL,
    status        TEXT    NOT NULL,
    pushed_at     BIGINT  NOT NULL,
    pulled_at     BIGINT,
    archived_at   BIGINT,
    activated_at  BIGINT,
    keys          BLOB,
    seal_id       TEXT    NOT NULL,
    content       BLOB    NOT NULL,
    tags          TEXT    NOT NULL,         -- JSON list
    blobs         TEXT    NOT NULL,         -- JSON list of digests
    children      TEXT    NOT NULL,         -- JSON list of digests
    missing_blobs    TEXT NOT NULL,         -- JSON list of digests that it named and the repository lacked
    missing_children TEXT NOT NULL,         -- the same of manifests
    deleted_at    BIGINT  NOT NULL
);
CREATE INDEX deleted_manifests_by_name ON deleted_manifests (account, region, kind, name, digest);
CREATE INDEX deleted_manifests_by_time ON deleted_manifests (deleted_at);
