-- IAM: users, groups and roles, their policies, who may assume what, and the policies of repositories and registries.
-- IAM is global in an account: no regions here, but for registry policies. Names are unique ignoring case, so the
-- `…_key` columns hold them in lower case.

CREATE TABLE principals (
    id               TEXT   NOT NULL PRIMARY KEY,   -- AIDA… | AGPA… | AROA…, never used twice
    account          TEXT   NOT NULL REFERENCES accounts (id),
    kind             TEXT   NOT NULL,               -- user | group | role
    name             TEXT   NOT NULL,
    name_key         TEXT   NOT NULL,
    path             TEXT   NOT NULL,
    boundary         TEXT,                          -- policy ARN; users and roles
    trust_policy     TEXT,                          -- roles; principals bound to their ids
    description      TEXT,                          -- roles
    max_session      BIGINT,                        -- roles; seconds
    last_used_at     BIGINT,                        -- roles
    last_used_region TEXT,
    created_at       BIGINT NOT NULL,
    UNIQUE (account, kind, name_key)
);
CREATE INDEX principals_by_boundary ON principals (boundary) WHERE boundary IS NOT NULL;

CREATE TABLE principal_tags (
    principal_id TEXT NOT NULL REFERENCES principals (id),
    tag_key      TEXT NOT NULL,                     -- lower case
    key          TEXT NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (principal_id, tag_key)
);

CREATE TABLE group_members (
    group_id  TEXT   NOT NULL REFERENCES principals (id),
    user_id   TEXT   NOT NULL REFERENCES principals (id),
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_by_user ON group_members (user_id, group_id);

CREATE TABLE inline_policies (
    principal_id TEXT NOT NULL REFERENCES principals (id),
    name         TEXT NOT NULL,
    document     TEXT NOT NULL,
    PRIMARY KEY (principal_id, name)
);

-- ARNs of AWS's own managed policies have no row in managed_policies.
CREATE TABLE attached_policies (
    principal_id TEXT   NOT NULL REFERENCES principals (id),
    policy_arn   TEXT   NOT NULL,
    attached_at  BIGINT NOT NULL,
    PRIMARY KEY (principal_id, policy_arn)
);
CREATE INDEX attached_policies_by_policy ON attached_policies (policy_arn, principal_id);

CREATE TABLE managed_policies (
    arn             TEXT   NOT NULL PRIMARY KEY,
    id              TEXT   NOT NULL UNIQUE,         -- ANPA…
    account         TEXT   NOT NULL REFERENCES accounts (id),
    name            TEXT   NOT NULL,
    name_key        TEXT   NOT NULL,
    path            TEXT   NOT NULL,
    description     TEXT,
    tags            TEXT   NOT NULL,                -- JSON
    default_version BIGINT NOT NULL,
    newest_version  BIGINT NOT NULL,                -- numbers are never used twice
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    UNIQUE (account, name_key)
);

CREATE TABLE managed_policy_versions (
    policy_arn TEXT   NOT NULL REFERENCES managed_policies (arn),
    version    BIGINT NOT NULL,
    document   TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (policy_arn, version)
);

CREATE TABLE account_aliases (
    alias      TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL UNIQUE REFERENCES accounts (id),
    created_at BIGINT NOT NULL
);

CREATE TABLE oidc_providers (
    arn         TEXT   NOT NULL PRIMARY KEY,
    account     TEXT   NOT NULL REFERENCES accounts (id),
    url         TEXT   NOT NULL,                    -- without its scheme
    client_ids  TEXT   NOT NULL,                    -- JSON list
    thumbprints TEXT   NOT NULL,                    -- JSON list
    tags        TEXT   NOT NULL,                    -- JSON
    created_at  BIGINT NOT NULL,
    UNIQUE (account, url)
);

-- NULL: a key of the account's root user.
ALTER TABLE access_keys ADD COLUMN principal_id TEXT REFERENCES principals (id);
ALTER TABLE access_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE access_keys ADD COLUMN last_used_service TEXT;
ALTER TABLE access_keys ADD COLUMN last_used_region TEXT;
CREATE INDEX access_keys_by_principal ON access_keys (principal_id) WHERE principal_id IS NOT NULL;

-- `document` is what was set; `bound` is what is evaluated: user and role ARNs replaced by unique ids.
CREATE TABLE repository_policies (
    repository_id BIGINT NOT NULL PRIMARY KEY REFERENCES repositories (id),
    document      TEXT   NOT NULL,
    bound         TEXT   NOT NULL,
    updated_at    BIGINT NOT NULL
);

CREATE TABLE registry_policies (
    account    TEXT   NOT NULL,
    region     TEXT   NOT NULL,
    document   TEXT   NOT NULL,
    bound      TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account, region)
);

-- Counters that a change moves in its own transaction, so that every node learns that what it remembers is old.
CREATE TABLE epochs (
    name  TEXT   NOT NULL PRIMARY KEY,              -- identities | resource-policies
    value BIGINT NOT NULL
);
INSERT INTO epochs (name, value) VALUES ('identities', 1), ('resource-policies', 1);
