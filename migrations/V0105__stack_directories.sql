-- What the directories that hold Compose projects describe, as a worker of the engine last read
-- them: one row for each configured directory, all of its projects in it.
CREATE TABLE stack_directories (
    agent           text        NOT NULL,
    watcher         text        NOT NULL,
    directory       text        NOT NULL,             -- on the worker's host
    stacks          jsonb,                            -- NULL: it could not be read so far
    problem         text,                             -- why it cannot be read now
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent, watcher, directory),
    FOREIGN KEY (agent, watcher) REFERENCES watchers (agent, name) ON DELETE CASCADE
);

-- Bumped by every change: replicas read the rows anew then, and never otherwise. 0: there never
-- was a row.
CREATE TABLE stack_directories_version (
    singleton       boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    version         bigint      NOT NULL
);
INSERT INTO stack_directories_version (version) VALUES (0);

CREATE FUNCTION bump_stack_directories_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE stack_directories_version SET version = version + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER stack_directories_version AFTER INSERT OR UPDATE OR DELETE ON stack_directories
    FOR EACH ROW EXECUTE FUNCTION bump_stack_directories_version();
