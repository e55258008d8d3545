-- Live jobs only. Ending a job deletes it here and inserts it into jobs_done or jobs_dead.
CREATE TABLE jobs (
    id           uuid PRIMARY KEY,
    queue        text NOT NULL,
    kind         text NOT NULL,               -- a verb on the subject
    subject_id   uuid NOT NULL,
    priority     smallint NOT NULL DEFAULT 0, -- 0 normal, 1 high
    run_at       timestamptz NOT NULL,        -- due then (the injected clock)
    push_until   timestamptz,                 -- handed to Redis; if nobody has claimed it by then it is pushed again (database clock)
    claimed_by   uuid,                        -- the worker process that has it
    fence        integer NOT NULL DEFAULT 0,  -- raised by every claim; an older one changes nothing
    again        boolean NOT NULL DEFAULT false, -- woken while claimed: runs once more after this attempt
    failures     integer NOT NULL DEFAULT 0,
    crashes      integer NOT NULL DEFAULT 0,  -- attempts that ended without an answer
    waits        integer NOT NULL DEFAULT 0,  -- how often it answered `later`
    max_failures integer NOT NULL,
    last_error   text,
    traceparent  text,                        -- W3C trace context of what caused it
    created_at   timestamptz NOT NULL,
    UNIQUE (kind, subject_id)
) WITH (fillfactor = 50);
-- No index names a column that a claim changes, so that claims stay HOT.
CREATE INDEX jobs_due ON jobs (queue, run_at);

CREATE TABLE jobs_done (
    id          uuid NOT NULL,
    queue       text NOT NULL,
    kind        text NOT NULL,
    subject_id  uuid NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'cancelled')),
    reason      text,                          -- cancelled: why
    worker      uuid,
    fence       integer NOT NULL,
    failures    integer NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    PRIMARY KEY (id, ended_at)
) PARTITION BY RANGE (ended_at);
CREATE TABLE jobs_done_default PARTITION OF jobs_done DEFAULT;
CREATE INDEX jobs_done_by_subject ON jobs_done (subject_id);

-- Gave up: kept until retried, or until their subject ends or gets a live job.
CREATE TABLE jobs_dead (
    id           uuid PRIMARY KEY,
    queue        text NOT NULL,
    kind         text NOT NULL,
    subject_id   uuid NOT NULL,
    priority     smallint NOT NULL,
    max_failures integer NOT NULL,
    fence        integer NOT NULL,
    failures     integer NOT NULL,
    crashes      integer NOT NULL,
    error        text NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL,
    died_at      timestamptz NOT NULL
);
CREATE INDEX jobs_dead_by_subject ON jobs_dead (kind, subject_id);

-- Attempts that did not end their job and were not `later`.
CREATE TABLE job_attempts (
    job_id      uuid NOT NULL,
    fence       integer NOT NULL,
    worker      uuid,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('retry', 'crash', 'dead')),
    error       text
) PARTITION BY RANGE (finished_at);
CREATE TABLE job_attempts_default PARTITION OF job_attempts DEFAULT;
CREATE INDEX job_attempts_by_job ON job_attempts (job_id);

-- Processes that work, by their own heartbeat (database clock).
CREATE TABLE workers (
    id           uuid PRIMARY KEY,         -- new at each start
    role         text NOT NULL,            -- confirm, mature, payout, notify, dispatch
    host         text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    gapless_since timestamptz NOT NULL,    -- since when its heartbeats came without a gap
    under_work   uuid[] NOT NULL DEFAULT '{}'  -- jobs that have really started: a crash counts for these only
) WITH (fillfactor = 50);

-- What an operator sets per queue.
CREATE TABLE queues (
    name        text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    concurrency integer NOT NULL CHECK (concurrency BETWEEN 1 AND 10000),
    rate        integer NOT NULL DEFAULT 0,   -- jobs a second it lately ended, measured by dispatch
    updated_at  timestamptz NOT NULL
) WITH (fillfactor = 50);
INSERT INTO queues (name, concurrency, updated_at) VALUES
    ('confirm', 1000, now()), ('mature', 1000, now()), ('payout', 16, now()), ('notify', 16, now());

CREATE TABLE cron (
    name          text PRIMARY KEY,
    every_seconds integer NOT NULL CHECK (every_seconds > 0),
    next_at       timestamptz NOT NULL,
    last_at       timestamptz,
    last_result   text
);
INSERT INTO cron (name, every_seconds, next_at) VALUES
    ('ensure_partitions', 86400, now()), ('match_waiting_reports', 15, now()), ('forget_old_workers', 3600, now());

-- The highest tick dispatch has written to Redis: a lower one there means Redis was emptied or restored.
CREATE TABLE redis_tick (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    tick bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO redis_tick (tick) VALUES (0);
