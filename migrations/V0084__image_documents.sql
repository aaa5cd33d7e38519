-- Bills of materials, compressed with gzip. Each belongs to a report of the kind 'sbom', and goes with
-- it.
CREATE TABLE image_documents (
    identity_key    text        NOT NULL,
    kind            text        NOT NULL DEFAULT 'sbom',
    subject         text        NOT NULL,
    format          text        NOT NULL,             -- domain::security::SbomFormat
    generator       text        NOT NULL,
    at              timestamptz NOT NULL,
    document        bytea       NOT NULL,
    PRIMARY KEY (identity_key, kind, subject, format),
    FOREIGN KEY (identity_key, kind, subject)
        REFERENCES image_reports (identity_key, kind, subject) ON DELETE CASCADE
);
-- It is compressed already.
ALTER TABLE image_documents ALTER COLUMN document SET STORAGE EXTERNAL;

-- Of several requests for the same document, one makes it and the others wait for that.
CREATE UNIQUE INDEX jobs_sbom ON jobs ((spec ->> 'container'), (spec ->> 'format'))
    WHERE kind = 'sbom' AND state IN ('queued', 'running');
