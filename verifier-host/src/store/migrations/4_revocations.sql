-- Notifiers whose revocations are signed here. `key` is theirs, sealed for the anchor, there as long as a node of the anchor is;
-- `crl` the newest revocation list of their CA; `signer_*` who signs lists in the CA's place.
CREATE TABLE revocation_anchors (
    anchor             TEXT PRIMARY KEY,
    key                BLOB,
    crl                BLOB,
    crl_number         TEXT,
    crl_issuer         BLOB,
    signer_certificate BLOB,
    signer_key         BLOB
) STRICT;

-- A log for each group of each anchor; the group of nodes without one is ''. `webhook` is the last entry that the webhook took.
CREATE TABLE revocation_logs (
    log_id     TEXT PRIMARY KEY,
    anchor     TEXT NOT NULL REFERENCES revocation_anchors (anchor),
    node_group TEXT NOT NULL,
    webhook    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (anchor, node_group)
) STRICT;

-- Entries outlive the nodes that they are about. `operator`: 1 where an operator revoked the node, which hadn't failed.
CREATE TABLE revocations (
    log_id      TEXT NOT NULL REFERENCES revocation_logs (log_id),
    number      INTEGER NOT NULL CHECK (number > 0),
    uuid        TEXT,
    kind        TEXT NOT NULL CHECK (kind IN ('revocation', 'crl')),
    at          INTEGER NOT NULL,
    operator    INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    cert_serial TEXT,
    msg         TEXT NOT NULL,
    signature   TEXT NOT NULL,
    PRIMARY KEY (log_id, number)
) STRICT;

ALTER TABLE nodes ADD COLUMN log_id TEXT REFERENCES revocation_logs (log_id);

CREATE INDEX nodes_of_log ON nodes (log_id);

-- How far each node is with its log. `speaks` is what is known of its agent: whether it reports, or merely acknowledges.
CREATE TABLE revocation_peers (
    uuid     TEXT PRIMARY KEY REFERENCES nodes (uuid) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    speaks   TEXT CHECK (speaks IN ('log', 'keylime')),
    since    INTEGER
) STRICT;

-- How the actions of an entry ended, JSON, the last of each node and entry.
CREATE TABLE revocation_outcomes (
    uuid    TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    log_id  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    actions TEXT NOT NULL,
    PRIMARY KEY (uuid, log_id, number)
) STRICT;

CREATE INDEX outcomes_of ON revocation_outcomes (log_id, number);

PRAGMA user_version = 4;
