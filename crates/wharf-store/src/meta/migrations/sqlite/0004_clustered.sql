-- Rows that are little more than their key lie in the key's own tree: half the pages that a push changes.

CREATE TABLE clustered_blobs (
    domain_id BIGINT NOT NULL REFERENCES key_domains (id),
    digest    TEXT   NOT NULL,
    size      BIGINT NOT NULL,
    object_id TEXT   NOT NULL REFERENCES objects (id),
    PRIMARY KEY (domain_id, digest)
) WITHOUT ROWID;
INSERT INTO clustered_blobs SELECT domain_id, digest, size, object_id FROM blobs ORDER BY domain_id, digest;
DROP TABLE blobs;
ALTER TABLE clustered_blobs RENAME TO blobs;
CREATE UNIQUE INDEX blobs_by_object ON blobs (object_id);

CREATE TABLE clustered_repository_blobs (
    repository_id      BIGINT NOT NULL REFERENCES repositories (id),
    digest             TEXT   NOT NULL,
    domain_id          BIGINT NOT NULL,
    linked_at          BIGINT NOT NULL,
    unreferenced_since BIGINT,              -- NULL while a manifest names it
    PRIMARY KEY (repository_id, digest),
    FOREIGN KEY (domain_id, digest) REFERENCES blobs (domain_id, digest)
) WITHOUT ROWID;
INSERT INTO clustered_repository_blobs
SELECT repository_id, digest, domain_id, linked_at, unreferenced_since
FROM repository_blobs
ORDER BY repository_id, digest;
DROP TABLE repository_blobs;
ALTER TABLE clustered_repository_blobs RENAME TO repository_blobs;
CREATE INDEX repository_blobs_by_blob ON repository_blobs (domain_id, digest);
CREATE INDEX repository_blobs_unreferenced ON repository_blobs (unreferenced_since)
    WHERE unreferenced_since IS NOT NULL;

CREATE TABLE clustered_manifest_blobs (
    repository_id BIGINT NOT NULL,
    manifest      TEXT   NOT NULL,
    blob          TEXT   NOT NULL,
    PRIMARY KEY (repository_id, manifest, blob),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, blob) REFERENCES repository_blobs (repository_id, digest)
) WITHOUT ROWID;
INSERT INTO clustered_manifest_blobs
SELECT repository_id, manifest, blob FROM manifest_blobs ORDER BY repository_id, manifest, blob;
DROP TABLE manifest_blobs;
ALTER TABLE clustered_manifest_blobs RENAME TO manifest_blobs;
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (repository_id, blob);

CREATE TABLE clustered_manifest_children (
    repository_id BIGINT NOT NULL,
    parent        TEXT   NOT NULL,
    child         TEXT   NOT NULL,
    PRIMARY KEY (repository_id, parent, child),
    FOREIGN KEY (repository_id, parent) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, child) REFERENCES manifests (repository_id, digest)
) WITHOUT ROWID;
INSERT INTO clustered_manifest_children
SELECT repository_id, parent, child FROM manifest_children ORDER BY repository_id, parent, child;
DROP TABLE manifest_children;
ALTER TABLE clustered_manifest_children RENAME TO manifest_children;
CREATE INDEX manifest_children_by_child ON manifest_children (repository_id, child);

CREATE TABLE clustered_tags (
    repository_id BIGINT NOT NULL,
    name          TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    updated_at    BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
) WITHOUT ROWID;
INSERT INTO clustered_tags SELECT repository_id, name, digest, updated_at FROM tags ORDER BY repository_id, name;
DROP TABLE tags;
ALTER TABLE clustered_tags RENAME TO tags;
CREATE INDEX tags_by_digest ON tags (repository_id, digest, name);
