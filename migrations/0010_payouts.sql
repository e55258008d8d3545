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
    key_expires_at timestamptz NOT NULL,     -- afterwards the bank may have forgotten the key: look-up only
    sends          integer NOT NULL,         -- how often it was sent
    standing       text NOT NULL CHECK (standing IN ('calling', 'not_sent', 'accepted')),
                                             -- calling: a send has begun and nothing is known of it (also after a crash);
                                             -- not_sent: every send is proven not to have happened; accepted: the bank has it
    doubtful       boolean NOT NULL          -- an earlier send had no answer: a refusal proves nothing any more
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

-- The bank's statement as far as we have read it, line by line. Append-only.
CREATE TABLE bank_movements (
    rail        text NOT NULL,
    position    bigint NOT NULL,             -- the line's number at the bank
    kind        text NOT NULL CHECK (kind IN ('debit', 'return')),
    key         text NOT NULL,               -- our key, as the bank repeats it
    reference   text NOT NULL,               -- the bank's own number
    amount      numeric(19,2) NOT NULL CHECK (amount > 0),  -- EUR; of a return: what really came back
    payout_id   uuid REFERENCES payouts,     -- null: no payout of ours has that key
    outcome     text NOT NULL CHECK (outcome IN ('booked', 'quarantined')),
    reason      text,                        -- why it was quarantined
    booked_at   timestamptz NOT NULL,
    PRIMARY KEY (rail, position)
);
CREATE INDEX bank_movements_by_key ON bank_movements (key);

-- How far each rail's statement has been read. Its row lock serialises the readers.
CREATE TABLE bank_cursors (
    rail     text PRIMARY KEY,
    position bigint NOT NULL
) WITH (fillfactor = 50);

-- While a row without lifted_at exists, no payout is sent for the first time.
CREATE TABLE payout_stops (
    id        uuid PRIMARY KEY,
    cause     text NOT NULL,
    since     timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text
);
CREATE INDEX payout_stops_live ON payout_stops (since) WHERE lifted_at IS NULL;
