-- Operations that were asked for together and come one after another: the restart of a stack in the
-- order of what its services need, or of a container and what follows it. All of a group's members
-- are written in one transaction and are ordinary operations; one that comes after others waits for
-- them before its first step.
CREATE TABLE operation_groups (
    id              uuid        PRIMARY KEY,
    kind            text        NOT NULL CHECK (kind IN ('restart-stack', 'restart-container')),
    agent           text        NOT NULL DEFAULT '',
    watcher         text        NOT NULL,
    name            text        NOT NULL,             -- of the stack, or of the container
    actor           text        NOT NULL,
    request_id      text,
    created_at      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE update_operations ADD COLUMN group_id uuid REFERENCES operation_groups (id);
ALTER TABLE update_operations ADD COLUMN group_place integer;
-- [{"operation": uuid, "condition": "service_healthy"}], of the same group.
ALTER TABLE update_operations ADD COLUMN waits_for jsonb;
CREATE INDEX update_operations_group ON update_operations (group_id) WHERE group_id IS NOT NULL;
