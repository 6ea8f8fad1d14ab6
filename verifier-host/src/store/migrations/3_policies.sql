-- Runtime and measured-boot policies under names. Equal ones are kept once. A policy that a tenant gave for one node alone has
-- the node's name and goes with it (`owner`).
CREATE TABLE policy_texts (
    digest BLOB PRIMARY KEY,
    text   BLOB NOT NULL
) STRICT;

CREATE TABLE policies (
    kind   TEXT NOT NULL CHECK (kind IN ('runtime', 'measured boot')),
    name   TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES policy_texts (digest),
    owner  TEXT REFERENCES nodes (uuid) ON DELETE CASCADE,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE INDEX policies_of ON policies (digest);

-- What a node showed when it failed last, packed: for whoever asks why.
CREATE TABLE evidence (
    uuid     TEXT PRIMARY KEY REFERENCES nodes (uuid) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    evidence BLOB NOT NULL
) STRICT;

PRAGMA user_version = 3;
