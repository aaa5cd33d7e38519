-- Automatic updates that were asked for: with `once`, one candidate is tried once.
CREATE TABLE automatic_updates (
    identity_key    text        NOT NULL,
    trigger_name    text        NOT NULL,
    candidate       text        NOT NULL,             -- as in candidate_sightings
    operation_id    uuid        NOT NULL,
    requested_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_key, trigger_name, candidate)
);
