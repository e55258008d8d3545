-- Shoppers and administrators.
CREATE TABLE users (
    id                uuid PRIMARY KEY,
    email             text NOT NULL UNIQUE,             -- as registered; the domain is lower case
    password_hash     text,                             -- argon2id (PHC string); null: cannot sign in
    role              text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    active            boolean NOT NULL DEFAULT true,    -- false: no sign-in and no payout
    email_verified_at timestamptz,                      -- null: nothing is paid out yet
    wants_email       boolean NOT NULL DEFAULT true,    -- false: no mail about cashback; payout mail is always sent
    created_at        timestamptz NOT NULL
);

-- Where a shopper's money goes. Account number and holder are encrypted together.
CREATE TABLE bank_accounts (
    user_id    uuid PRIMARY KEY REFERENCES users,
    key_id     text NOT NULL,          -- which data key sealed it
    sealed     bytea NOT NULL,         -- AES-256-GCM: nonce, then {iban, holder} as JSON; bound to user_id
    masked     text NOT NULL,          -- what a screen may show: country and last four
    updated_at timestamptz NOT NULL
);
