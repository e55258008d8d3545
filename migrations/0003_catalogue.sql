CREATE TABLE merchants (
    id                          uuid PRIMARY KEY,
    name                        text NOT NULL,
    default_cashback_percentage numeric(7,4) NOT NULL DEFAULT 0 CHECK (default_cashback_percentage >= 0),
    active                      boolean NOT NULL DEFAULT true,   -- false: purchases are kept with 0.00
    award_above_commission      boolean NOT NULL DEFAULT false,  -- true: we may pay more than we earn here
    created_at                  timestamptz NOT NULL
);
CREATE UNIQUE INDEX merchants_name ON merchants (lower(name));

CREATE TABLE offers (
    id          uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchants,
    kind        text NOT NULL CHECK (kind IN ('percent', 'fixed')),
    value       numeric(19,4) NOT NULL CHECK (value > 0),             -- percent of the basis, or EUR
    basis       text NOT NULL DEFAULT 'sale' CHECK (basis IN ('sale', 'commission')),
    monthly_cap numeric(19,2) CHECK (monthly_cap > 0),                -- EUR per shopper and calendar month; null: none
    start_date  date NOT NULL,
    end_date    date NOT NULL,
    active      boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL,
    CHECK (end_date >= start_date)
);
CREATE UNIQUE INDEX offers_one_active ON offers (merchant_id) WHERE active;
CREATE INDEX offers_by_merchant ON offers (merchant_id, start_date);

-- Euros for one unit of a foreign currency.
CREATE TABLE exchange_rates (
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    day      date NOT NULL,
    rate     numeric(18,8) NOT NULL CHECK (rate > 0),
    PRIMARY KEY (currency, day)
);
