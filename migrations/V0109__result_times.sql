-- When the registries were asked whose answers a container's result is made of, so that a check that
-- answers from what was known before does not write over a newer one. Beside the container, whose row
-- is not written where a check finds what is known.
CREATE TABLE result_times (
    container_id    text        PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,
    image_id        text        NOT NULL,             -- that the result was computed for
    observed_at     timestamptz NOT NULL
) WITH (fillfactor = 70);
