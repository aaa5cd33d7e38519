-- What scanners and the like say about an image, kept for each container by what was examined: a
-- report is never shown for another image than the one it was made of.
CREATE TABLE image_reports (
    identity_key    text        NOT NULL,
    kind            text        NOT NULL,             -- 'scan'
    subject         text        NOT NULL,             -- manifest digest, or the engine's image id
    report          jsonb       NOT NULL,             -- domain::security::ScanReport
    content         text,                             -- the long part: a JSON array of vulnerabilities
    at              timestamptz NOT NULL,
    PRIMARY KEY (identity_key, kind, subject)
);
CREATE TRIGGER image_reports_touch AFTER INSERT OR UPDATE OR DELETE ON image_reports
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();

-- One scan at a time for each engine, whoever asks through whichever replica.
CREATE UNIQUE INDEX jobs_scan ON jobs (agent, watcher)
    WHERE kind = 'scan' AND state IN ('queued', 'running');
