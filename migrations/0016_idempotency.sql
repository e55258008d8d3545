-- Answers to calls that carried an Idempotency-Key, stored in the transaction of their effect. Kept 48 hours.
CREATE TABLE idempotency_keys (
    user_id     uuid NOT NULL REFERENCES users,
    route       text NOT NULL,                 -- method and path template
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,                -- SHA-256 over path and body: another one under the same key is refused
    status      smallint NOT NULL,
    body        jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, route, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

INSERT INTO cron (name, every_seconds, next_at) VALUES ('forget_old_keys', 60, now());

GRANT SELECT, INSERT ON idempotency_keys TO clicknback_api;
GRANT SELECT, DELETE ON idempotency_keys TO clicknback_worker;
