-- Counters of the whole installation, for /metrics: they only grow, whatever restarts and whatever
-- old rows are forgotten. Processes add what they counted every few seconds, all of it in one
-- statement.
CREATE TABLE metric_totals (
    name            text        NOT NULL,             -- app::totals::Total, or 'audit'
    labels          text[]      NOT NULL,             -- values, in the order of the metric's labels
    value           double precision NOT NULL,
    PRIMARY KEY (name, labels)
);

-- The audit trail is counted from its rows. Those of finished transactions are added to the totals
-- from time to time and remembered by their transaction; the few that came since are counted when
-- somebody asks. So each is counted once, also when its worker dies, or after it was forgotten.
CREATE TABLE metric_folds (
    source          text        PRIMARY KEY,
    before          xid8        NOT NULL              -- older transactions are in metric_totals
);
-- Without a default first: rows that are there stay as they are, and are counted here.
ALTER TABLE audit ADD COLUMN xid xid8;
ALTER TABLE audit ALTER COLUMN xid SET DEFAULT pg_current_xact_id();
CREATE INDEX audit_xid ON audit (xid) WHERE xid IS NOT NULL;
INSERT INTO metric_totals (name, labels, value)
SELECT 'audit', ARRAY[action, status, coalesce(trigger_name, '')], count(*)
  FROM audit GROUP BY action, status, coalesce(trigger_name, '');
-- Every row with a transaction is newer than those counted here.
INSERT INTO metric_folds VALUES ('audit', '0');
