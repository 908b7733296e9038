-- Lifecycle policies, what they did, and the jobs that carry them out.

-- Work that outlives a process. Whoever holds the lease does it; `fence` grows with every lease, so that a holder who
-- lost his can change nothing any more.
CREATE TABLE jobs (
    kind        TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    due_at      BIGINT NOT NULL,
    lease_until BIGINT,                     -- NULL: nobody does it
    fence       BIGINT NOT NULL,
    attempts    BIGINT NOT NULL,            -- since it last succeeded
    PRIMARY KEY (kind, key)
);
CREATE INDEX jobs_by_due ON jobs (kind, due_at);

CREATE TABLE lifecycle_policies (
    repository_id BIGINT NOT NULL PRIMARY KEY REFERENCES repositories (id),
    document      TEXT   NOT NULL,
    version       BIGINT NOT NULL,          -- moves with every change
    updated_at    BIGINT NOT NULL,
    evaluated_at  BIGINT                    -- NULL: not yet
);

CREATE TABLE lifecycle_previews (
    repository_id BIGINT NOT NULL PRIMARY KEY REFERENCES repositories (id),
    id            TEXT   NOT NULL UNIQUE,   -- of this one preview
    document      TEXT   NOT NULL,
    status        TEXT   NOT NULL,          -- IN_PROGRESS | COMPLETE | FAILED
    expiring      BIGINT NOT NULL,
    archiving     BIGINT NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT
);

-- What a preview found; rows of a preview that is gone are dropped in batches.
CREATE TABLE lifecycle_preview_images (
    preview_id    TEXT   NOT NULL,
    place         BIGINT NOT NULL,
    digest        TEXT   NOT NULL,
    tags          TEXT   NOT NULL,          -- JSON list
    tagged        BOOLEAN NOT NULL,
    pushed_at     BIGINT NOT NULL,
    action        TEXT   NOT NULL,          -- EXPIRE | TRANSITION
    rule_priority BIGINT NOT NULL,
    storage_class TEXT   NOT NULL,          -- STANDARD | ARCHIVE
    PRIMARY KEY (preview_id, place)
);

-- Images that somebody reports to be running, until he stops saying so.
CREATE TABLE images_in_use (
    account    TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    holder     TEXT   NOT NULL,             -- a cluster, a node
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (account, digest, holder)
);
CREATE INDEX images_in_use_by_expiry ON images_in_use (expires_at);

-- What happened, written with what happened; read by those who pass it on.
CREATE TABLE events (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account     TEXT    NOT NULL,
    region      TEXT    NOT NULL,
    detail_type TEXT    NOT NULL,
    detail      TEXT    NOT NULL,           -- JSON
    created_at  BIGINT  NOT NULL
);
CREATE INDEX events_by_time ON events (created_at);
