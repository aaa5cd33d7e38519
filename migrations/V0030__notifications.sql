-- Notifications (contract/drydock-app-api.md, "Notification rules").

CREATE TABLE notification_rules (
    id              text        PRIMARY KEY,
    place           smallint    NOT NULL UNIQUE,      -- the order they are listed in
    name            text        NOT NULL,
    description     text        NOT NULL,
    enabled         boolean     NOT NULL,
    triggers        text[]      NOT NULL DEFAULT '{}', -- ids of components; empty: all
    updated_at      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO notification_rules (id, place, name, description, enabled) VALUES
    ('update-available', 1, 'Update Available', 'When a container has a new version', true),
    ('update-applied', 2, 'Update Applied', 'After a container is successfully updated', true),
    ('update-failed', 3, 'Update Failed', 'When an update fails or is rolled back', true),
    ('security-alert', 4, 'Security Alert', 'Critical/High vulnerability detected', true),
    ('agent-disconnect', 5, 'Agent Disconnected', 'When a remote agent loses connection', false);

-- What was told of, once for each subject and occasion whatever happens to the container: messages
-- are written in the transaction that inserts here, for the triggers that there are then.
CREATE TABLE announcements (
    identity_key    text        NOT NULL,             -- a container's, or 'agent:<name>'
    occasion        text        NOT NULL,             -- a candidate as in candidate_sightings, a scan, a time
    announced_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_key, occasion)
);
-- What is known already is no news.
INSERT INTO announcements (identity_key, occasion)
SELECT identity_key, candidate FROM candidate_sightings;

-- Messages to be delivered: one row for each trigger and thing that happened.
CREATE TABLE notification_outbox (
    id              uuid        PRIMARY KEY,
    rule            text        NOT NULL,             -- a rule's id, or 'run' for a trigger run by hand
    agent           text        NOT NULL,             -- whose workers deliver it; '' = this installation's
    type            text        NOT NULL,
    name            text        NOT NULL,
    form            text        NOT NULL CHECK (form IN ('simple', 'batch', 'digest')),
    identity_key    text        NOT NULL,             -- what it is about: a container's, or an agent's name
    occasion        text        NOT NULL,             -- candidate, operation, scan …: one message for each
    subject         text        NOT NULL,             -- for people
    payload         jsonb       NOT NULL,             -- what templates are filled from; never a secret
    place           integer     NOT NULL DEFAULT 100, -- the trigger's `order`: lower goes first
    state           text        NOT NULL DEFAULT 'pending'
                    CHECK (state IN ('pending', 'sending', 'delivered', 'dead', 'withdrawn')),
    attempts        integer     NOT NULL DEFAULT 0,
    max_attempts    integer     NOT NULL DEFAULT 5,
    due_at          timestamptz NOT NULL DEFAULT now(),
    claim           uuid,                             -- of one attempt
    claim_expires_at timestamptz,
    error           text,                             -- of the last attempt, without secrets
    receipt         jsonb,                            -- what the service calls the message
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
);
CREATE UNIQUE INDEX notification_outbox_once
    ON notification_outbox (rule, agent, type, name, form, identity_key, occasion);
CREATE INDEX notification_outbox_open
    ON notification_outbox (agent, type, name, due_at) WHERE state IN ('pending', 'sending');
CREATE INDEX notification_outbox_newest ON notification_outbox (created_at DESC, id DESC);
