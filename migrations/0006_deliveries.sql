-- Bytes that an authenticated network sent us: evidence, never changed.
CREATE TABLE deliveries (
    id          uuid NOT NULL PRIMARY KEY,
    network     text NOT NULL,
    method      text NOT NULL,
    query       text NOT NULL,           -- the query string as sent, without secrets
    headers     jsonb NOT NULL,          -- names in lower case; secrets masked
    body        bytea NOT NULL,
    sender_id   text,                    -- the sender's own id of this delivery, where it has one
    digest      bytea NOT NULL,          -- SHA-256 of method, query and body
    trusted     boolean NOT NULL,        -- how it was authenticated: signature, pull, import or operator
    received_at timestamptz NOT NULL,
    traceparent text                     -- W3C trace context of the call
) PARTITION BY RANGE (id);
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;

-- What has been seen before. `id:…` is a sender's own id and holds for good;
-- `sha256:…` stands for bytes without an id and holds for 15 minutes.
CREATE TABLE delivery_keys (
    network     text NOT NULL,
    key         text NOT NULL,
    delivery_id uuid NOT NULL,           -- the first delivery with this key
    digest      bytea NOT NULL,          -- to tell a repeat from the same id with another body
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (network, key)
) WITH (fillfactor = 90);

-- How a delivery was read and answered. Beside the delivery, since a replay changes it.
CREATE TABLE delivery_results (
    delivery_id  uuid PRIMARY KEY,
    network      text NOT NULL,
    answer       text NOT NULL CHECK (answer IN ('accepted', 'duplicate', 'ignored', 'waiting', 'quarantined')),
    reason       text,                   -- why it was quarantined, ignored or waits, for an operator
    duplicate_of uuid,
    effects      jsonb NOT NULL,         -- per report: what it did and to which purchase
    adapter      text NOT NULL,          -- adapter and version that read it
    replays      integer NOT NULL DEFAULT 0,
    decided_at   timestamptz NOT NULL
);
CREATE INDEX delivery_results_quarantined ON delivery_results (network, delivery_id) WHERE answer = 'quarantined';
