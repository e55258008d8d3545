CREATE TABLE payouts (
    id                 uuid PRIMARY KEY,
    user_id            uuid NOT NULL REFERENCES users,
    amount             numeric(19,2) NOT NULL CHECK (amount > 0),   -- EUR
    method             text NOT NULL CHECK (method = 'bank_transfer'),
    rail               text NOT NULL,                -- who carries it: sandbox, manual
    origin             text NOT NULL CHECK (origin IN ('auto', 'user', 'admin')),
    state              text NOT NULL CHECK (state IN ('requested', 'in_review', 'processing', 'completed', 'failed', 'returned', 'cancelled')),
    unknown            boolean NOT NULL DEFAULT false,  -- processing, and the last call had no answer
    version            integer NOT NULL,             -- raised by every change
    review             text CHECK (review IN ('approved', 'held')),  -- a person's word while in_review
    reason             text,                         -- why it failed, was cancelled or came back
    external_reference text,                         -- the bank's own number
    requested_at       timestamptz NOT NULL,
    begun_at           timestamptz,                  -- just before the first call
    ended_at           timestamptz,
    updated_at         timestamptz NOT NULL,
    CHECK (NOT unknown OR state = 'processing'),
    CHECK (state NOT IN ('completed', 'returned') OR external_reference IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX payouts_by_user ON payouts (user_id, requested_at, id);
CREATE INDEX payouts_open ON payouts (user_id) WHERE state IN ('requested', 'in_review', 'processing');
CREATE UNIQUE INDEX payouts_reference ON payouts (rail, external_reference);

-- What we told the bank, stored before the first call and sent again byte for byte.
CREATE TABLE payout_instructions (
    payout_id      uuid PRIMARY KEY REFERENCES payouts,
    key            text NOT NULL UNIQUE,     -- the bank's idempotency key
    key_id         text NOT NULL,            -- which data key sealed it
    sealed         bytea NOT NULL,           -- the request body, encrypted: amount, account, name, key
    first_call_at  timestamptz NOT NULL,
    deadline_at    timestamptz NOT NULL,     -- until then an unanswered call may still be carried out: no new send
    key_expires_at timestamptz NOT NULL      -- afterwards the bank may have forgotten the key: look-up only
);

-- Every word of the bank, as it came. Append-only; even a worker that lost its job may add one.
CREATE TABLE payout_answers (
    id          uuid PRIMARY KEY,
    payout_id   uuid NOT NULL REFERENCES payouts,
    job_id      uuid,
    fence       integer,
    call        text NOT NULL CHECK (call IN ('send', 'lookup', 'movement', 'operator')),
    verdict     text NOT NULL,               -- how it was read
    http_status integer,
    body        text NOT NULL,               -- as received, cut at 4 KiB
    answered_at timestamptz NOT NULL
);
CREATE INDEX payout_answers_by_payout ON payout_answers (payout_id, id);

-- While a row without lifted_at exists, no payout is sent for the first time.
CREATE TABLE payout_stops (
    id        uuid PRIMARY KEY,
    cause     text NOT NULL,
    since     timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text
);
CREATE INDEX payout_stops_live ON payout_stops (since) WHERE lifted_at IS NULL;
