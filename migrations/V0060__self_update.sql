-- An operation on a container that Plimsoll itself runs in has its engine to itself.
ALTER TABLE update_operations ADD COLUMN exclusive boolean NOT NULL DEFAULT false;
