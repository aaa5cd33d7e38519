-- What an operation does with the Compose file that its container came from, whatever trigger it
-- is run by: `edit` writes the new image into it, `apply` makes the container run what the file
-- says. NULL: what the trigger does. The way back from an update that edited the file edits it too.
ALTER TABLE update_operations ADD COLUMN compose_file text CHECK (compose_file IN ('edit', 'apply'));
