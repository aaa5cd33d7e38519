-- Who followed the events when an operation began that stops Plimsoll itself, and is to acknowledge
-- that: the answer may come to any replica.
CREATE TABLE self_update_acks (
    operation_id    uuid        NOT NULL REFERENCES update_operations (id) ON DELETE CASCADE,
    client_id       uuid        NOT NULL,
    proof           bytea       NOT NULL,         -- SHA-256 of the client's token and its credential
    expires_at      timestamptz NOT NULL,         -- the operation goes on without an answer
    acked_at        timestamptz,
    PRIMARY KEY (operation_id, client_id)
);
