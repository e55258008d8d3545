-- Switches (contract §7). Looked up by scope first, then globally; one that does not exist is on.
CREATE TABLE feature_flags (
    id          uuid PRIMARY KEY,
    key         text NOT NULL CHECK (key ~ '^[a-z][a-z0-9_]{0,99}$'),
    scope_type  text NOT NULL CHECK (scope_type IN ('global', 'merchant', 'user')),
    scope_id    uuid,
    enabled     boolean NOT NULL,
    description text,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CHECK ((scope_type = 'global') = (scope_id IS NULL))
);
CREATE UNIQUE INDEX feature_flags_one ON feature_flags (key, scope_type, scope_id) NULLS NOT DISTINCT;
CREATE INDEX feature_flags_newest ON feature_flags (created_at, id);

GRANT SELECT, INSERT, UPDATE, DELETE ON feature_flags TO clicknback_api;
GRANT SELECT ON feature_flags TO clicknback_worker;
