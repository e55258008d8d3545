-- What was bought, as we believe it now, with its cashback.
CREATE TABLE purchases (
    id                  uuid PRIMARY KEY,
    network             text NOT NULL,
    group_key           text NOT NULL,                   -- the contract's external_id
    user_id             uuid NOT NULL REFERENCES users,
    merchant_id         uuid NOT NULL,
    click_ref           text,
    state               text NOT NULL CHECK (state IN ('pending', 'confirmed', 'rejected', 'reversed')),
    version             integer NOT NULL,                -- raised by every change of money or state
    word                text NOT NULL,                   -- what the network last said that counts (see reports.word)
    word_trusted        boolean NOT NULL,                -- whether that was a trusted report
    trusted_heard       boolean NOT NULL,                -- a trusted report has spoken about its order
    sale_amount         numeric(19,4) NOT NULL,
    currency            text NOT NULL,                   -- as sent
    commission_amount   numeric(19,4),                   -- null: not said
    commission_currency text,
    rate                numeric(18,8),                   -- euros per unit of the basis' currency; frozen at the first award
    offer_id            uuid,                            -- null: no offer, cashback 0.00
    term_kind           text,                            -- the offer's terms, frozen at the first award
    term_value          numeric(19,4),
    term_basis          text,
    term_cap            numeric(19,2),
    cap_month           date,                            -- which month's cap this purchase uses
    raw_award           numeric(19,2) NOT NULL,          -- the award before the cap
    cashback_state      text CHECK (cashback_state IN ('pending', 'available', 'reversed')),  -- null: nothing was ever awarded
    cashback_amount     numeric(19,2) NOT NULL CHECK (cashback_amount >= 0),  -- what the ledger holds for it now
    reason              text,                            -- why it is what it is, in words for the shopper
    occurred_at         timestamptz NOT NULL,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    confirmed_at        timestamptz,
    mature_on           text,                            -- frozen at confirmation: approved or paid
    matures_at          timestamptz,                     -- frozen at confirmation
    matured_at          timestamptz,
    network_paid_at     timestamptz,                     -- the network has paid us
    UNIQUE (network, group_key)
) WITH (fillfactor = 70);
CREATE INDEX purchases_by_user ON purchases (user_id, created_at, id);
