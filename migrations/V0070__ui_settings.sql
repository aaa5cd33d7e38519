-- What GET and PATCH /settings show and change (contract/drydock-app-api.md, "Settings").
CREATE TABLE ui_settings (
    singleton         boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    internetless_mode boolean     NOT NULL DEFAULT false,
    updated_at        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ui_settings DEFAULT VALUES;
