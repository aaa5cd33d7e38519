-- Whether each agent was connected when somebody looked last: what changed is told once, by whoever
-- sees it first.
CREATE TABLE agents (
    name            text        PRIMARY KEY,
    connected       boolean     NOT NULL,
    changed_at      timestamptz NOT NULL DEFAULT now()
);

-- An agent's worker that ended in order stays in sight, as one that is not connected.
ALTER TABLE workers ADD COLUMN left_at timestamptz;
