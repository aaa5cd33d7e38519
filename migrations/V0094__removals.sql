-- Removals of containers, images, networks and volumes of an engine: one object, or what nobody
-- uses. What goes is written down before the first of it goes, so that a worker that takes over
-- knows what the one before it had in mind, and whoever asked hears what became of each.
CREATE TABLE removals (
    id              uuid        PRIMARY KEY,
    agent           text        NOT NULL DEFAULT '',
    watcher         text        NOT NULL,
    request         jsonb       NOT NULL,             -- domain::explorer::removal::RemovalRequest
    actor           text        NOT NULL,
    request_id      text,
    planned_at      timestamptz,
    completed_at    timestamptz,
    error           text,                             -- why nothing, or nothing more, was done
    error_code      text,                             -- the same for programs
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX removals_completed ON removals (completed_at);

CREATE TABLE removal_items (
    removal_id      uuid        NOT NULL REFERENCES removals (id) ON DELETE CASCADE,
    place           integer     NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('container', 'network', 'volume', 'image')),
    object_id       text        NOT NULL,             -- the engine's id; a volume's name
    name            text        NOT NULL,
    tag             text,                             -- only this name of an image goes
    size            bigint,                           -- bytes, where the engine says
    state           text        NOT NULL CHECK (state IN ('planned', 'removed', 'kept')),
    reason          text,                             -- domain::explorer::Obstacle, or 'engine'
    message         text,
    PRIMARY KEY (removal_id, place)
);

CREATE UNIQUE INDEX jobs_removal ON jobs ((spec ->> 'removal')) WHERE kind = 'removal';
