-- Least privilege. Evidence (deliveries, reports, audit) and transfers can be written once by the
-- application and never changed; only the keeper deletes evidence, and nobody deletes a transfer.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO clicknback_api;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO clicknback_worker;
-- Workers need no password hash and no network secret.
REVOKE SELECT ON users, network_secrets FROM clicknback_worker;
GRANT SELECT (id, email, role, active, email_verified_at, wants_email, created_at) ON users TO clicknback_worker;

GRANT INSERT ON deliveries, reports, transfers, audit_log, jobs_done, job_attempts, payout_answers
    TO clicknback_api, clicknback_worker;
GRANT INSERT, UPDATE ON delivery_keys, delivery_results, orders, purchases, wallets, cashback_caps, payouts
    TO clicknback_api, clicknback_worker;
GRANT INSERT, UPDATE, DELETE ON jobs, jobs_dead, waiting_reports TO clicknback_api, clicknback_worker;
GRANT UPDATE ON queues TO clicknback_api, clicknback_worker;

GRANT INSERT, UPDATE ON users, bank_accounts, merchants, offers, clicks TO clicknback_api;

GRANT INSERT ON notifications TO clicknback_worker;
GRANT INSERT, UPDATE ON payout_instructions, payout_stops, bank_cursors TO clicknback_worker;
GRANT INSERT ON bank_movements TO clicknback_worker;
GRANT INSERT, UPDATE, DELETE ON workers TO clicknback_worker;
GRANT UPDATE ON cron, redis_tick TO clicknback_worker;

GRANT SELECT, DELETE ON deliveries, delivery_keys, delivery_results, reports, jobs_done, job_attempts, audit_log
    TO clicknback_keeper;

SELECT ensure_partitions(3);
