-- Outgoing webhooks (docs/automation.md): who is told of events by HTTP, and what is still to be told.

CREATE TABLE webhook_endpoints (
    id              uuid        PRIMARY KEY,
    url             text        NOT NULL,
    description     text        NOT NULL,
    events          text[]      NOT NULL,             -- names of events; '*': all
    enabled         boolean     NOT NULL DEFAULT true,
    disabled_reason text,                             -- why Plimsoll switched it off
    secret          bytea       NOT NULL,             -- the key that signs; shown once, when it is made
    old_secret      bytea,                            -- the key before it, which signs too for a day
    old_secret_until timestamptz,
    seen_xid        xid8        NOT NULL,             -- the place of the last event that was looked at
    seen_id         bigint      NOT NULL,
    claim           uuid,                             -- of the one attempt that is under way
    claim_expires_at timestamptz,
    failing_since   timestamptz,                      -- the first failure since the last success
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- Events that somebody is or was told of: they are forgotten before a dead letter is.
CREATE TABLE webhook_payloads (
    event_id        bigint      PRIMARY KEY,
    data            text        NOT NULL,             -- JSON, exactly as on the stream
    happened_at     timestamptz NOT NULL
);

CREATE TABLE webhook_deliveries (
    id              uuid        PRIMARY KEY,          -- the header webhook-id, the same in each attempt
    endpoint_id     uuid        NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    type            text        NOT NULL,
    xid             xid8        NOT NULL,             -- its place in the order of events
    place           bigint      NOT NULL,
    event_id        bigint      REFERENCES webhook_payloads (event_id),
    data            text,                             -- of what is no event: a test, a gap
    state           text        NOT NULL DEFAULT 'pending'
                    CHECK (state IN ('pending', 'sending', 'delivered', 'dead')),
    attempts        integer     NOT NULL DEFAULT 0,
    due_at          timestamptz NOT NULL DEFAULT now(),
    attempted_at    timestamptz,
    status_code     integer,                          -- of the last answer
    error           text,                             -- of the last attempt, without secrets
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CHECK ((event_id IS NULL) <> (data IS NULL))
);
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (endpoint_id, due_at, xid, place)
    WHERE state IN ('pending', 'sending');
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (endpoint_id, xid DESC, place DESC, id);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id);
CREATE INDEX webhook_deliveries_over ON webhook_deliveries (finished_at);

-- How far events were forgotten, so that whoever stands before that place can be told of a gap.
CREATE TABLE events_forgotten (
    singleton       boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    xid             xid8        NOT NULL,
    id              bigint      NOT NULL
);
INSERT INTO events_forgotten (xid, id) VALUES ('0', 0);

CREATE FUNCTION note_forgotten_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events_forgotten f SET xid = newest.xid, id = newest.id
      FROM (SELECT xid, id FROM gone ORDER BY xid DESC, id DESC LIMIT 1) newest
     WHERE (newest.xid, newest.id) > (f.xid, f.id);
    RETURN NULL;
END $$;
CREATE TRIGGER events_forgotten AFTER DELETE ON events REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note_forgotten_events();
