-- Payloads that tenants deposited for nodes that call by themselves. One without `file` waits for its sealed bytes; at most one
-- of a node has them. `v` is sealed for uuid and payload. `spent_*` is the boot that a payload for one boot went to, -1 for one
-- that can't come again.
CREATE TABLE deposits (
    uuid          TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    payload_id    TEXT NOT NULL,
    manifest      BLOB NOT NULL,
    signature     BLOB NOT NULL,
    signer        BLOB NOT NULL,
    u_blob        BLOB NOT NULL,
    v             BLOB NOT NULL,
    file          TEXT,
    received_at   INTEGER,
    spent_reset   INTEGER,
    spent_restart INTEGER,
    PRIMARY KEY (uuid, payload_id)
) STRICT;

-- The boot that a node was seen in last, and the last one whose cap PCR was still uncapped.
CREATE TABLE boots (
    uuid           TEXT PRIMARY KEY REFERENCES nodes (uuid) ON DELETE CASCADE,
    reset_count    INTEGER NOT NULL,
    restart_count  INTEGER NOT NULL,
    safe           INTEGER NOT NULL,
    capped         INTEGER,
    opened_reset   INTEGER,
    opened_restart INTEGER,
    cleared_tpm    INTEGER NOT NULL
) STRICT;

-- What came of payloads, the last of each node. `answer` is V for `release_key`, as it was sent.
CREATE TABLE releases (
    id             INTEGER PRIMARY KEY,
    uuid           TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    payload_id     TEXT NOT NULL,
    at             INTEGER NOT NULL,
    reset_count    INTEGER NOT NULL,
    restart_count  INTEGER NOT NULL,
    release_key    BLOB NOT NULL,
    challenge_hash BLOB NOT NULL,
    answer         BLOB NOT NULL
) STRICT;

CREATE TABLE refusals (
    id            INTEGER PRIMARY KEY,
    uuid          TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    payload_id    TEXT NOT NULL,
    at            INTEGER NOT NULL,
    code          TEXT NOT NULL,
    reset_count   INTEGER,
    restart_count INTEGER
) STRICT;

CREATE TABLE receipts (
    id           INTEGER PRIMARY KEY,
    uuid         TEXT NOT NULL REFERENCES nodes (uuid) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    receipt      BLOB NOT NULL,
    challenge    BLOB NOT NULL,
    subject_data BLOB NOT NULL,
    message      BLOB NOT NULL,
    signature    BLOB NOT NULL
) STRICT;

CREATE INDEX releases_of ON releases (uuid, id);
CREATE INDEX refusals_of ON refusals (uuid, id);
CREATE INDEX receipts_of ON receipts (uuid, id);

PRAGMA user_version = 2;
