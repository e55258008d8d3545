-- Refresh tokens (contract §4). Only their digest is kept. Each is used once; its successor belongs to the same family.
CREATE TABLE refresh_tokens (
    digest         bytea PRIMARY KEY,            -- SHA-256 of the token
    family         uuid NOT NULL,                -- made at sign-in, kept by every successor
    user_id        uuid NOT NULL REFERENCES users,
    rotation_count integer NOT NULL,             -- how many came before it in its family
    issued_at      timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,                  -- null: not used yet
    revoked_at     timestamptz                   -- signed out, password changed, or a replay was seen
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- What a link in a mail stands for. The token itself is never stored: it is an HMAC over the id (shared/src/auth).
CREATE TABLE one_time_tokens (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users,
    purpose    text NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    email      text NOT NULL,                    -- the address it was made for: it is void once that has changed
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (user_id, created_at);
CREATE INDEX one_time_tokens_by_expiry ON one_time_tokens (expires_at);

-- What an address is told about its account without a link. The id is the subject of the mail.
CREATE TABLE account_notices (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users,
    event      text NOT NULL CHECK (event IN ('password_changed', 'email_changed')),
    email      text NOT NULL,                    -- whom to tell: of a changed address, the earlier one
    created_at timestamptz NOT NULL
);
CREATE INDEX account_notices_by_user ON account_notices (user_id);
CREATE INDEX account_notices_by_age ON account_notices (created_at);

-- For the export of one's own data.
CREATE INDEX notifications_by_user ON notifications (user_id, sent_at);

ALTER TABLE users
    ADD COLUMN deleted_at timestamptz,                        -- anonymised: only the row and its money's history stay
    ADD COLUMN muted_events text[] NOT NULL DEFAULT '{}';     -- events the shopper wants no mail about
-- The list of accounts counts exactly, without touching the table.
CREATE INDEX users_newest ON users (created_at, id) INCLUDE (role, active) WHERE deleted_at IS NULL;
CREATE INDEX users_by_role ON users (role, created_at, id) WHERE deleted_at IS NULL;

INSERT INTO cron (name, every_seconds, next_at) VALUES ('forget_old_tokens', 3600, now());

-- Deleting an account deletes these too: they hold its address and its sessions.
GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_tokens, one_time_tokens TO clicknback_api;
GRANT SELECT, INSERT, DELETE ON account_notices TO clicknback_api;
-- dispatch forgets what has expired; notify writes the link of a token into its mail.
GRANT SELECT, DELETE ON refresh_tokens, one_time_tokens, account_notices TO clicknback_worker;
GRANT SELECT (deleted_at, muted_events) ON users TO clicknback_worker;
