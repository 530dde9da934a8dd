-- The token service. `record` is what token_codec.h makes of a record's fields that have no column: JSON.
-- `rev` is a position of the change feed.

-- Withdrawn: the entry's SPIFFE ID is that of a suspended or retired identity, or lies below it. No agent is given it.
ALTER TABLE entries ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;

CREATE TABLE identities (
  n         INTEGER PRIMARY KEY,
  spiffe_id TEXT NOT NULL UNIQUE,
  state     INTEGER NOT NULL,  -- 1 draft, 2 active, 3 suspended, 4 retired: stays as a tombstone
  version   INTEGER NOT NULL,
  rev       INTEGER NOT NULL,
  record    TEXT NOT NULL
) STRICT;
CREATE INDEX identities_stopped ON identities (spiffe_id) WHERE state >= 3;

CREATE TABLE issuers (
  n      INTEGER PRIMARY KEY,
  url    TEXT NOT NULL UNIQUE,
  rev    INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;

CREATE TABLE resources (
  n         INTEGER PRIMARY KEY,
  uri       TEXT NOT NULL UNIQUE,
  version   INTEGER NOT NULL,
  tombstone INTEGER NOT NULL,
  rev       INTEGER NOT NULL,
  record    TEXT NOT NULL
) STRICT;

CREATE TABLE grants (
  n      INTEGER PRIMARY KEY,
  id     TEXT NOT NULL UNIQUE,
  state  INTEGER NOT NULL,  -- 1 active, 2 revoked, 3 void
  rev    INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;

-- Which grants hold atoms of a resource: those that a change of it may void.
CREATE TABLE grant_resources (
  resource TEXT NOT NULL,
  n        INTEGER NOT NULL,
  PRIMARY KEY (resource, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
  n            INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  state        INTEGER NOT NULL,  -- 1 open, 2 closed
  budget       INTEGER NOT NULL,  -- calls; 0: not bounded
  reserved     INTEGER NOT NULL,
  instance     TEXT NOT NULL,     -- '': not bound yet
  root_subject TEXT NOT NULL,
  reauth_at    INTEGER NOT NULL,
  rev          INTEGER NOT NULL,
  record       TEXT NOT NULL
) STRICT;

CREATE TABLE user_rights (
  n      INTEGER PRIMARY KEY,
  user   TEXT NOT NULL UNIQUE,  -- UserKey: issuer and subject
  rev    INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;

CREATE TABLE revocations (
  n          INTEGER PRIMARY KEY,
  kind       INTEGER NOT NULL,  -- oauth::EntityKind
  entity     TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  not_before INTEGER NOT NULL,
  reason     TEXT NOT NULL,
  reinstated INTEGER NOT NULL,
  UNIQUE (kind, entity)
) STRICT;
CREATE INDEX revocations_by_time ON revocations (not_before);

-- What may be used once, until it would be refused for its age anyway.
CREATE TABLE once_values (
  value      TEXT PRIMARY KEY,
  until_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX once_values_by_time ON once_values (until_time);

CREATE TABLE refresh_tokens (
  hash          BLOB PRIMARY KEY,  -- SHA-256; the token itself stands nowhere
  family        TEXT NOT NULL,
  instance      TEXT NOT NULL,
  task          TEXT NOT NULL,
  state         TEXT NOT NULL,
  expires_at    INTEGER NOT NULL,
  used          INTEGER NOT NULL,
  used_at       INTEGER NOT NULL,
  successor     BLOB NOT NULL,
  successor_for TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- The audit chains: append only.
CREATE TABLE audit_records (
  n         INTEGER PRIMARY KEY,
  server_id TEXT NOT NULL,
  epoch     INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  body      TEXT NOT NULL,
  hash      BLOB NOT NULL,
  txn       TEXT NOT NULL,
  UNIQUE (server_id, epoch, seq)
) STRICT;
CREATE INDEX audit_records_by_txn ON audit_records (txn, n) WHERE txn <> '';
