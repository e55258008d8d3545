-- What a site holds after two years of so many purchases: everything that is kept for good and has an index in which new
-- rows land anywhere, and of evidence and history the present and the last month, as if all older ones were dropped.
-- Rows whose indexes only grow at their right edge (audit rows, notifications) cost the same at every size and are left out.
-- Parameters: $1 the first purchase, $2 the one after the last.

-- people
INSERT INTO users (id, email, role, active, email_verified_at, created_at)
SELECT pg_temp.shopper(n), 'grown' || n || '@example.test', 'user', true, pg_temp.at(0), pg_temp.at(0)
FROM generate_series($1::bigint, $2::bigint - 1) AS n;

-- orders
INSERT INTO orders (network, group_key, purchase_id, trusted, parts)
SELECT 'reference', pg_temp.key(n), pg_temp.id(n, 'p'), true,
       jsonb_build_object(pg_temp.key(n), jsonb_build_object('word', 'approved', 'sale', '20.00', 'currency', 'EUR', 'trusted', true))
FROM generate_series($1::bigint, $2::bigint - 1) AS n;

-- purchases: pending for three days, then on hold for thirty
INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted, trusted_heard,
    sale_amount, currency, rate, offer_id, term_kind, term_value, term_basis, raw_award, cashback_state, cashback_amount,
    awarded, occurred_at, created_at, updated_at, confirmed_at, mature_on, matures_at, matured_at)
SELECT pg_temp.id(n, 'p'), 'reference', pg_temp.key(n), pg_temp.shopper(pg_temp.buyer(n)), offer.merchant_id,
       CASE age WHEN 'new' THEN 'pending' ELSE 'confirmed' END, CASE age WHEN 'new' THEN 1 WHEN 'held' THEN 2 ELSE 3 END,
       CASE age WHEN 'new' THEN 'tracked' ELSE 'approved' END, true, true, 20.00, 'EUR', 1, offer.id, offer.kind, offer.value,
       offer.basis, 1.00, CASE age WHEN 'old' THEN 'available' ELSE 'pending' END, 1.00, 1.00, at, at, at,
       CASE WHEN age <> 'new' THEN at + interval '2 days' END, CASE WHEN age <> 'new' THEN 'approved' END,
       CASE WHEN age <> 'new' THEN at + interval '32 days' END, CASE age WHEN 'old' THEN at + interval '32 days' END
FROM generate_series($1::bigint, $2::bigint - 1) AS n
CROSS JOIN LATERAL (SELECT pg_temp.at(n) AS at) a
CROSS JOIN LATERAL (SELECT CASE WHEN at > now() - interval '3 days' THEN 'new' WHEN at > now() - interval '33 days' THEN 'held' ELSE 'old' END AS age) b
JOIN (SELECT o.*, row_number() OVER (ORDER BY o.id) - 1 AS place, count(*) OVER () AS many
      FROM offers o JOIN merchants m ON m.id = o.merchant_id WHERE m.name LIKE 'Bench shop %') AS offer ON offer.place = n % offer.many;

-- transfers
INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version, purchase_id, created_at)
SELECT pg_temp.id(n, code), p.user_id, debit, credit, 1.00, code, p.id, t.version, p.id, p.created_at
FROM generate_series($1::bigint, $2::bigint - 1) AS n
JOIN purchases p ON p.id = pg_temp.id(n, 'p')
JOIN (VALUES ('track', 'rewards', 'pending', 1), ('mature', 'pending', 'available', 3)) AS t (code, debit, credit, version)
  ON t.code = 'track' OR p.cashback_state = 'available';

-- keys of deliveries
INSERT INTO delivery_keys (network, key, delivery_id, digest, seen_at)
SELECT 'reference', 'id:' || pg_temp.key(n), pg_temp.id(n, 'd'), sha256(pg_temp.key(n)::bytea), pg_temp.at(n)
FROM generate_series($1::bigint, $2::bigint - 1) AS n;

-- jobs
INSERT INTO jobs (id, queue, kind, subject_id, run_at, max_failures, created_at)
SELECT pg_temp.id(n, 'j'), CASE p.state WHEN 'pending' THEN 'confirm' ELSE 'mature' END,
       CASE p.state WHEN 'pending' THEN 'purchases.confirm' ELSE 'cashback.mature' END, p.id,
       p.created_at + interval '90 days', 10, p.created_at
FROM generate_series($1::bigint, $2::bigint - 1) AS n
JOIN purchases p ON p.id = pg_temp.id(n, 'p') AND p.cashback_state = 'pending';

-- history
INSERT INTO jobs_done (id, queue, kind, subject_id, outcome, fence, failures, created_at, ended_at)
SELECT pg_temp.id(n, kind), 'notify', kind, pg_temp.id(n, 'p'), 'done', 1, 0, pg_temp.at(n), pg_temp.at(n)
FROM generate_series($1::bigint, $2::bigint - 1) AS n
CROSS JOIN (VALUES ('purchases.confirm'), ('cashback.mature'), ('mail.recorded'), ('mail.confirmed')) AS k (kind)
WHERE pg_temp.at(n) >= date_trunc('month', now()) - interval '1 month';

-- deliveries
INSERT INTO deliveries (id, network, method, query, headers, body, sender_id, digest, trusted, received_at)
SELECT pg_temp.id(n, 'd'), 'reference', 'POST', '', '{"content-type": "application/json", "webhook-id": "x"}',
       convert_to(repeat(pg_temp.key(n), 10), 'UTF8'), pg_temp.key(n), sha256(pg_temp.key(n)::bytea), true, pg_temp.at(n)
FROM generate_series($1::bigint, $2::bigint - 1) AS n
WHERE pg_temp.at(n) >= date_trunc('month', now()) - interval '1 month';

-- results
INSERT INTO delivery_results (delivery_id, network, answer, effects, adapter, decided_at)
SELECT id, network, 'accepted', '[{"effect": "born"}]', 'reference/1', received_at
FROM deliveries WHERE id >= pg_temp.lowest($1) AND id < pg_temp.lowest($2);

-- reports
INSERT INTO reports (id, delivery_id, network, group_key, row_key, word, sale_amount, sale_currency, trusted, received_at)
SELECT pg_temp.id(n, 'r'), pg_temp.id(n, 'd'), 'reference', pg_temp.key(n), pg_temp.key(n), 'approved', 20.00, 'EUR', true, pg_temp.at(n)
FROM generate_series($1::bigint, $2::bigint - 1) AS n
WHERE pg_temp.at(n) >= date_trunc('month', now()) - interval '1 month';
