-- How long a container may take to stop, in seconds, where whoever asks for the stop or restart says so.
ALTER TABLE operation_inputs ADD COLUMN stop_grace integer CHECK (stop_grace >= 0);

-- The request for several containers at once that an operation or a removal came with, where those
-- are no group that comes in an order.
ALTER TABLE update_operations ADD COLUMN batch uuid;
CREATE INDEX update_operations_batch ON update_operations (batch) WHERE batch IS NOT NULL;
ALTER TABLE removals ADD COLUMN batch uuid;
CREATE INDEX removals_batch ON removals (batch) WHERE batch IS NOT NULL;
