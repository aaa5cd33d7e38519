-- The foundation: inventory, operations, jobs, events, access.
--
-- Two rules run through the whole schema.
--  1. Rows that replicas cache carry `xid`, the transaction that last wrote them. A reader that
--     remembers the `pg_snapshot_xmin` of its last read asks for `xid >= that` and is provably no
--     staler than its own snapshot, whatever order transactions commit in.
--  2. Leases are judged by the database's clock only.

-- Watchers: one Docker engine each. agent '' is this installation's own worker.
CREATE TABLE watchers (
    agent           text        NOT NULL DEFAULT '',
    name            text        NOT NULL,
    configuration   jsonb       NOT NULL,             -- masked: never a secret
    engine          jsonb,                            -- version, os, arch, cpus, memory as last seen
    connected       boolean     NOT NULL DEFAULT false,
    last_error      text,
    last_run_at     timestamptz,
    next_run_at     timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, name)
);

-- One row per worker process.
CREATE TABLE workers (
    id              uuid        PRIMARY KEY,
    agent           text        NOT NULL DEFAULT '',
    host            text        NOT NULL,
    version         text        NOT NULL,
    info            jsonb       NOT NULL,             -- os, arch, cpus, memoryGb, logLevel, watchers
    started_at      timestamptz NOT NULL DEFAULT now(),
    last_seen_at    timestamptz NOT NULL DEFAULT now()
);

-- Registries and triggers as configured, for GET /registries and /triggers: what a worker has
-- loaded, masked. kind is 'registry' or 'trigger'.
CREATE TABLE components (
    kind            text        NOT NULL CHECK (kind IN ('registry', 'trigger')),
    agent           text        NOT NULL DEFAULT '',
    type            text        NOT NULL,
    name            text        NOT NULL,
    configuration   jsonb       NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, agent, type, name)
);

-- Containers as last observed. `facts` is domain::container::ContainerFacts, without any
-- environment value that matches a sensitive key.
CREATE TABLE containers (
    id              text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    agent           text        NOT NULL DEFAULT '',
    watcher         text        NOT NULL,
    name            text        NOT NULL,
    identity_key    text        NOT NULL,
    status          text        NOT NULL,
    facts           jsonb       NOT NULL,
    result          jsonb,                            -- last watch result, or its error
    result_image_id text,                             -- the image the result was computed for
    removed         boolean     NOT NULL DEFAULT false,
    -- DELETE /containers/{id} forgets the row for as long as this very container exists: the next
    -- listing must not bring it back; a re-created one is new.
    forgotten       boolean     NOT NULL DEFAULT false,
    first_seen_at   timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    xid             xid8        NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX containers_xid ON containers (xid);
CREATE INDEX containers_engine ON containers (agent, watcher) WHERE NOT removed;
CREATE INDEX containers_identity ON containers (identity_key);

-- What follows the identity, not the container id.
CREATE TABLE policies (
    identity_key    text        PRIMARY KEY,
    policy          jsonb,                            -- domain::policy::UpdatePolicy, NULL = none
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- The maturity clock: the first sight of that candidate for that identity.
CREATE TABLE candidate_sightings (
    identity_key    text        NOT NULL,
    candidate       text        NOT NULL,             -- tag, or tag@digest for digest updates
    first_seen_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity_key, candidate)
);

-- A target that was rolled back is not tried again until a newer one appears.
CREATE TABLE rolled_back_targets (
    identity_key    text        PRIMARY KEY,
    target          text        NOT NULL,             -- repository:tag
    target_digest   text        NOT NULL,
    operation_id    uuid        NOT NULL,
    reason          text        NOT NULL,
    last_error      text,
    recorded_at     timestamptz NOT NULL DEFAULT now()
);

-- Details of a candidate image, fetched once, when it is first seen.
CREATE TABLE image_details (
    repository      text        NOT NULL,             -- registry host / repository
    reference       text        NOT NULL,             -- tag
    platform        text        NOT NULL,             -- os/arch[/variant]
    digest          text        NOT NULL,
    created         timestamptz,
    labels          jsonb,
    fetched_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (repository, reference, platform)
);

-- Operations: the truth about every update and rollback.
CREATE TABLE update_operations (
    id                  uuid        PRIMARY KEY,
    kind                text        NOT NULL CHECK (kind IN ('update', 'rollback')),
    agent               text        NOT NULL,
    watcher             text        NOT NULL,
    container_id        text        NOT NULL,         -- the container it was asked for
    container_name      text        NOT NULL,
    identity_key        text        NOT NULL,
    phase               text        NOT NULL DEFAULT 'prepare',
    intent              text,                         -- the step that was about to be taken
    seq                 integer     NOT NULL DEFAULT 0,
    trigger_name        text,
    from_version        text,
    to_version          text,
    target_image        text        NOT NULL,         -- repository:tag as the user reads it
    target_digest       text,                         -- fixed in prepare; pull, create and gate use it
    backup_id           uuid,                         -- rollback: where to go back to
    old_container_id    text,
    old_name            text,
    temp_name           text,
    new_container_id    text,
    old_was_running     boolean,
    dependants          text[],                       -- names of those in its namespaces; set when they are reserved
    snapshot            jsonb,                        -- full inspect of the old container, image id, repo digest
    new_spec            jsonb,                        -- the computed create body and networks
    gate                jsonb,                        -- deadlines and baseline of the health gate
    evidence            jsonb,                        -- what the final status was observed from
    rollback_reason     text,
    last_error          text,
    exit_code           integer,
    last_log            text,
    actor               text        NOT NULL,
    request_id          text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    completed_at        timestamptz,
    acknowledged_at     timestamptz                   -- rollback-failed: an operator took over
);
-- One active operation per container (DESIGN.md 3.6). A rollback-failed one stays active until it
-- is repaired or acknowledged.
CREATE UNIQUE INDEX update_operations_active ON update_operations (agent, watcher, container_name)
    WHERE completed_at IS NULL;
CREATE INDEX update_operations_identity ON update_operations (identity_key, created_at DESC);

-- The journal: gap-free, with worker, epoch and database time (reliability.md I-6).
CREATE TABLE operation_journal (
    operation_id    uuid        NOT NULL REFERENCES update_operations (id) ON DELETE CASCADE,
    seq             integer     NOT NULL,
    phase           text        NOT NULL,
    entry           text        NOT NULL CHECK (entry IN ('intent', 'done')),
    epoch           bigint      NOT NULL,
    worker          text        NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    note            jsonb,
    PRIMARY KEY (operation_id, seq)
);

-- Jobs are their own outbox: a row is written in the transaction that promises it, the queue only
-- wakes a worker, and a sweep finds what the queue lost.
CREATE TABLE jobs (
    id              uuid        PRIMARY KEY,
    kind            text        NOT NULL,
    agent           text        NOT NULL DEFAULT '',
    watcher         text        NOT NULL,
    spec            jsonb       NOT NULL,             -- domain::job::JobSpec
    slot            text        UNIQUE,               -- schedule slot: one job per slot for all workers
    operation_id    uuid        REFERENCES update_operations (id) ON DELETE CASCADE,
    state           text        NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'running', 'done', 'failed')),
    priority        smallint    NOT NULL DEFAULT 0,   -- lower runs first
    run_after       timestamptz NOT NULL DEFAULT now(),
    lease_owner     uuid,
    lease_epoch     bigint      NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    takeovers       integer     NOT NULL DEFAULT 0,   -- leases that were taken from another worker
    error           text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz
);
CREATE INDEX jobs_open ON jobs (agent, watcher, priority, created_at) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX jobs_operation ON jobs (operation_id) WHERE operation_id IS NOT NULL;

-- Ways back. `image_id` is pinned on the engine by the tag `pinned_as` until retention ends.
CREATE TABLE backups (
    id              uuid        PRIMARY KEY,
    agent           text        NOT NULL,
    watcher         text        NOT NULL,
    identity_key    text        NOT NULL,
    container_id    text        NOT NULL,
    container_name  text        NOT NULL,
    image_name      text        NOT NULL,
    image_tag       text        NOT NULL,
    image_digest    text,
    image_id        text        NOT NULL,
    pinned_as       text        NOT NULL,
    trigger_name    text        NOT NULL,
    operation_id    uuid        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX backups_identity ON backups (identity_key, created_at DESC);

-- Events for SSE, in the order (xid, id); readers stop at the snapshot's xmin, so that a slow
-- transaction delays events and never loses one.
CREATE TABLE events (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid             xid8        NOT NULL DEFAULT pg_current_xact_id(),
    type            text        NOT NULL,
    payload         text        NOT NULL,             -- JSON, exactly as sent
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_order ON events (xid, id);

CREATE TABLE audit (
    id              uuid        PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT now(),
    action          text        NOT NULL,
    container_name  text        NOT NULL DEFAULT '',
    container_image text,
    identity_key    text,
    from_version    text,
    to_version      text,
    trigger_name    text,
    status          text        NOT NULL CHECK (status IN ('success', 'error', 'info')),
    details         text,
    actor           text,
    request_id      text,
    operation_id    uuid
);
CREATE INDEX audit_at ON audit (at DESC, id DESC);
CREATE INDEX audit_action ON audit (action, at DESC);
CREATE INDEX audit_container ON audit (container_name, at DESC);

-- Idempotency keys are scoped to the principal and kept for 24 hours.
CREATE TABLE idempotency_keys (
    principal       text        NOT NULL,
    key             text        NOT NULL,
    request_hash    bytea       NOT NULL,
    operation_id    uuid        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key)
);

-- Access.
CREATE TABLE users (
    id              uuid        PRIMARY KEY,
    username        text        NOT NULL UNIQUE,
    role            text        NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'viewer')),
    password_hash   text,                             -- argon2id, PHC string
    source          text        NOT NULL,             -- 'configuration' or 'generated'
    disabled        boolean     NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE sessions (
    id_hash         bytea       PRIMARY KEY,          -- SHA-256 of the cookie's 256-bit value
    user_id         uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL,
    remember        boolean     NOT NULL DEFAULT false
);
CREATE INDEX sessions_user ON sessions (user_id, created_at);
CREATE TABLE api_tokens (
    id              uuid        PRIMARY KEY,
    user_id         uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name            text        NOT NULL,
    prefix          text        NOT NULL,             -- the first characters, to recognise it by
    secret_hash     bytea       NOT NULL UNIQUE,      -- SHA-256 of the 256-bit secret
    scopes          text[]      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz
);
-- Lockout counters, shared by replicas. subject is 'account:<name>' or 'ip:<address>'.
CREATE TABLE login_failures (
    subject         text        PRIMARY KEY,
    failures        integer     NOT NULL,
    window_start    timestamptz NOT NULL,
    locked_until    timestamptz
);
-- Bumped by every change to users, sessions or tokens: replicas drop cached principals at once.
CREATE TABLE access_version (
    singleton       boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    version         bigint      NOT NULL
);
INSERT INTO access_version (version) VALUES (1);

CREATE FUNCTION bump_access_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE access_version SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER users_version AFTER INSERT OR UPDATE OR DELETE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();
CREATE TRIGGER sessions_version AFTER UPDATE OR DELETE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();
CREATE TRIGGER tokens_version AFTER INSERT OR DELETE OR UPDATE OF user_id, scopes, expires_at, revoked_at ON api_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION bump_access_version();

-- `containers.xid` also moves when anything that the container's view shows beside its facts does,
-- so that one index range finds every change.
CREATE FUNCTION touch_xid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.xid := pg_current_xact_id();
    RETURN NEW;
END $$;
CREATE TRIGGER containers_touch BEFORE UPDATE ON containers
    FOR EACH ROW EXECUTE FUNCTION touch_xid();

CREATE FUNCTION touch_containers_of_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE containers SET xid = pg_current_xact_id()
     WHERE identity_key = CASE WHEN TG_OP = 'DELETE' THEN OLD.identity_key ELSE NEW.identity_key END
       AND NOT removed;
    RETURN NULL;
END $$;
CREATE TRIGGER policies_touch AFTER INSERT OR UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();
CREATE TRIGGER rolled_back_targets_touch AFTER INSERT OR UPDATE OR DELETE ON rolled_back_targets
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();
CREATE TRIGGER candidate_sightings_touch AFTER INSERT OR DELETE ON candidate_sightings
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();
CREATE TRIGGER update_operations_insert_touch AFTER INSERT ON update_operations
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();
CREATE TRIGGER update_operations_phase_touch AFTER UPDATE OF phase, completed_at ON update_operations
    FOR EACH ROW EXECUTE FUNCTION touch_containers_of_identity();
