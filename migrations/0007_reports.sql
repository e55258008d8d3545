-- Everything said about one purchase meets here: this row is locked first and makes it serial.
CREATE TABLE orders (
    network     text NOT NULL,
    group_key   text NOT NULL,           -- the network's key of the order
    purchase_id uuid,                    -- null: only reports that wait
    trusted     boolean NOT NULL DEFAULT false,  -- a trusted report has spoken: untrusted ones change nothing more
    parts       jsonb NOT NULL DEFAULT '{}',     -- row key → what we believe of that row; their sum is the purchase
    PRIMARY KEY (network, group_key)
) WITH (fillfactor = 80);

-- One normalised statement by a network about one row of an order: evidence, never changed.
CREATE TABLE reports (
    id                  uuid NOT NULL PRIMARY KEY,
    delivery_id         uuid NOT NULL,
    network             text NOT NULL,
    group_key           text NOT NULL,
    row_key             text NOT NULL,        -- which row of the order
    word                text NOT NULL CHECK (word IN ('tracked', 'approved', 'paid_by_network', 'declined', 'reversed')),
    raw_word            text,                 -- the network's own word
    reason              text,                 -- the network's reason for a decline or reversal
    sale_amount         numeric(19,4),        -- null: not said
    sale_currency       text,
    commission_amount   numeric(19,4),        -- what the network pays us
    commission_currency text,
    click_ref           text,
    advertiser          text,
    version_marker      bigint,               -- the network's own order of statements (number or Unix milliseconds); null: arrival decides
    occurred_at         timestamptz,          -- the purchase's own time; null: not said
    trusted             boolean NOT NULL,
    received_at         timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE TABLE reports_default PARTITION OF reports DEFAULT;
CREATE INDEX reports_by_order ON reports (network, group_key);

-- Reports that cannot be applied yet, and why.
CREATE TABLE waiting_reports (
    report_id  uuid PRIMARY KEY,
    network    text NOT NULL,
    group_key  text NOT NULL,
    cause      text NOT NULL CHECK (cause IN ('unknown_click', 'unknown_merchant', 'no_purchase', 'no_rate')),
    click_ref  text,
    advertiser text,
    since      timestamptz NOT NULL
);
CREATE INDEX waiting_reports_by_order ON waiting_reports (network, group_key);
CREATE INDEX waiting_reports_by_age ON waiting_reports (since);
