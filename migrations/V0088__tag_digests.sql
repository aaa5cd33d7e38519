-- What tags that stand still pointed at when they were last looked at, to know which of them names the
-- image that a mutable tag stands for. They seldom move, so one look a day will do.
CREATE TABLE tag_digests (
    repository  text        NOT NULL,             -- registry host / repository
    tag         text        NOT NULL,
    digest      text,                             -- NULL: the registry has no such tag
    looked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (repository, tag)
);
