-- Proof that a key file is the one that sealed this database: a constant, sealed with it.
CREATE TABLE at_rest (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    proof BLOB NOT NULL
) STRICT;

-- Nodes as they registered: identifiers, and the TPM keys that have been proved for them.
CREATE TABLE registrations (
    uuid      TEXT PRIMARY KEY,
    ek_tpm    BLOB NOT NULL,
    aik_tpm   BLOB NOT NULL,
    ekcert    BLOB,
    ip        TEXT,
    port      INTEGER,
    mtls_cert TEXT NOT NULL,
    regcount  INTEGER NOT NULL
) STRICT;

-- Nodes as a tenant added them. `terms` is what the tenant said (JSON) and never changes; `progress` is what happened
-- since (JSON). Secrets stand in columns of their own, sealed for uuid and column.
CREATE TABLE nodes (
    uuid           TEXT PRIMARY KEY,
    terms          TEXT NOT NULL,
    progress       TEXT NOT NULL,
    v              BLOB,
    revocation_key BLOB
) STRICT;

PRAGMA user_version = 1;
