-- The script whose failure bars updates of a container. It belongs to the identity, so that the
-- container keeps it when it is made anew.
CREATE TABLE script_assignments (
    identity_key    text        PRIMARY KEY,
    agent           text        NOT NULL,
    watcher         text        NOT NULL,
    container_name  text        NOT NULL,             -- as it was called when it was assigned
    script          text        NOT NULL,             -- relative to the directory of scripts
    actor           text        NOT NULL,
    assigned_at     timestamptz NOT NULL DEFAULT now()
);
