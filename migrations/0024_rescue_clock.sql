-- A process is dead when it was silent for eight seconds during which somebody watched: the database ran, and a dispatch
-- looked. Neither an outage of the database nor one of every dispatch counts, and nobody has to start over after one.
CREATE TABLE rescue_clock (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    watched   interval NOT NULL,      -- so long somebody has watched, since ever
    looked_at timestamptz NOT NULL    -- the last look (database clock)
) WITH (fillfactor = 50);
INSERT INTO rescue_clock (watched, looked_at) VALUES ('0', now());
GRANT SELECT ON rescue_clock TO clicknback_api, clicknback_worker;
GRANT UPDATE ON rescue_clock TO clicknback_worker;

ALTER TABLE workers ADD COLUMN heartbeat_watched interval NOT NULL DEFAULT '0'; -- rescue_clock.watched at the heartbeat
ALTER TABLE workers ALTER COLUMN heartbeat_watched DROP DEFAULT;
ALTER TABLE workers DROP COLUMN gapless_since;
