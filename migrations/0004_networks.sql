-- Sources of reports, and what each is trusted to do.
CREATE TABLE networks (
    name                  text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
    adapter               text NOT NULL,                     -- how its deliveries are read: reference, awin, self
    active                boolean NOT NULL DEFAULT true,     -- false: its calls are answered 404
    verifier              text NOT NULL CHECK (verifier IN ('as_reported', 'simulated', 'manual')),
    mature_on             text NOT NULL DEFAULT 'approved' CHECK (mature_on IN ('approved', 'paid')),
    hold_seconds          bigint NOT NULL CHECK (hold_seconds >= 0),          -- confirmation to maturity
    may_reduce            boolean NOT NULL DEFAULT false,    -- untrusted reports may reduce or reverse after confirmation
    confirm_after_seconds bigint CHECK (confirm_after_seconds >= 0),          -- operator's rule: age at which an untrusted purchase confirms; null: never
    confirm_max_amount    numeric(19,2) CHECK (confirm_max_amount > 0),       -- operator's rule: largest sale in EUR; null: any
    created_at            timestamptz NOT NULL
);

-- Path secrets and webhook keys. Several may live at once: that is how one is rotated.
CREATE TABLE network_secrets (
    id         uuid PRIMARY KEY,
    network    text NOT NULL REFERENCES networks,
    kind       text NOT NULL CHECK (kind IN ('path', 'webhook')),
    digest     bytea,                   -- path: SHA-256 of the secret, the secret itself is not kept
    key_id     text,                    -- webhook: which data key sealed it
    sealed     bytea,                   -- webhook: the signing key, encrypted, since it is needed to verify
    created_at timestamptz NOT NULL,
    expires_at timestamptz,             -- null: until removed
    CHECK ((kind = 'path') = (digest IS NOT NULL) AND (kind = 'webhook') = (sealed IS NOT NULL AND key_id IS NOT NULL))
);
CREATE INDEX network_secrets_by_network ON network_secrets (network);

-- A network's number for an advertiser, and the merchant it means.
CREATE TABLE network_merchants (
    network     text NOT NULL REFERENCES networks,
    advertiser  text NOT NULL,
    merchant_id uuid NOT NULL REFERENCES merchants,
    PRIMARY KEY (network, advertiser)
);

-- A shopper leaving through us, with the terms promised at that moment.
CREATE TABLE clicks (
    click_ref   text PRIMARY KEY,        -- handed to the network, which hands it back
    user_id     uuid NOT NULL REFERENCES users,
    merchant_id uuid NOT NULL REFERENCES merchants,
    network     text NOT NULL REFERENCES networks,
    offer_id    uuid REFERENCES offers,  -- null: nothing was promised
    kind        text CHECK (kind IN ('percent', 'fixed')),
    value       numeric(19,4),
    basis       text CHECK (basis IN ('sale', 'commission')),
    monthly_cap numeric(19,2),
    clicked_at  timestamptz NOT NULL,
    CHECK ((offer_id IS NULL) = (kind IS NULL) AND (kind IS NULL) = (value IS NULL) AND (kind IS NULL) = (basis IS NULL))
);
CREATE INDEX clicks_by_user ON clicks (user_id, clicked_at);
