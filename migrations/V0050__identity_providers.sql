-- People who sign in with an identity provider (OpenID Connect), and accounts that owners make.

-- Who they are is (issuer, subject). Their user name is '<provider>:<name>': no local account may
-- have a colon in its name, so none of them is ever taken for another.
ALTER TABLE users
    ADD COLUMN issuer  text,
    ADD COLUMN subject text,
    ADD CONSTRAINT users_identity UNIQUE (issuer, subject),
    ADD CONSTRAINT users_identity_whole CHECK ((issuer IS NULL) = (subject IS NULL));

-- Which provider a session began with: it is where signing out goes on.
ALTER TABLE sessions ADD COLUMN provider text;

-- Sign-ins that are on their way through a provider. Nothing here is of use without the browser's
-- cookie: PKCE's verifier and the nonce are made from that, and only hashes are kept.
CREATE TABLE oidc_logins (
    state_hash      bytea       PRIMARY KEY,          -- SHA-256 of the state parameter
    browser_hash    bytea       NOT NULL,             -- SHA-256 of the cookie
    provider        text        NOT NULL,
    remember        boolean     NOT NULL,
    expires_at      timestamptz NOT NULL
);
CREATE INDEX oidc_logins_expiry ON oidc_logins (expires_at);
