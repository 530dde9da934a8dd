-- Times are Unix seconds, 0 where not set. Lists of strings are blobs: row_codec.h says how.
-- `n` counts in the order of creation: pages of a list follow it.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,  -- 'epoch': made anew when missing, so a restore deletes this row; 'probe': written to try
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
  n              INTEGER PRIMARY KEY,
  id             TEXT NOT NULL UNIQUE,
  identity       BLOB NOT NULL,  -- SHA-256 over parent, SPIFFE ID and selectors
  spiffe_id      TEXT NOT NULL,
  parent_id      TEXT NOT NULL,
  selectors      BLOB NOT NULL,
  federates_with BLOB NOT NULL,
  dns_names      BLOB NOT NULL,
  hint           TEXT NOT NULL,
  x509_svid_ttl  INTEGER NOT NULL,
  jwt_svid_ttl   INTEGER NOT NULL,
  admin          INTEGER NOT NULL,
  downstream     INTEGER NOT NULL,
  store_svid     INTEGER NOT NULL,
  disable_x509_svid_prefetch INTEGER NOT NULL,
  jwt_svid_include_jti       INTEGER NOT NULL,
  expires_at     INTEGER NOT NULL,
  created_at     INTEGER NOT NULL,
  revision       INTEGER NOT NULL
) STRICT;
-- No two entries are the same. With the SPIFFE ID in front, entries made together stand together.
CREATE UNIQUE INDEX entries_by_spiffe_id ON entries (spiffe_id, identity);
CREATE INDEX entries_by_parent_id ON entries (parent_id);
CREATE INDEX entries_by_hint ON entries (hint) WHERE hint <> '';
CREATE INDEX entries_by_downstream ON entries (n) WHERE downstream = 1;
CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at > 0;

CREATE TABLE entry_selectors (
  selector TEXT NOT NULL,  -- type:value
  n        INTEGER NOT NULL,
  PRIMARY KEY (selector, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry_federates_with (
  trust_domain TEXT NOT NULL,
  n            INTEGER NOT NULL,
  PRIMARY KEY (trust_domain, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
  n                INTEGER PRIMARY KEY,
  id               TEXT NOT NULL UNIQUE,
  attestation_type TEXT NOT NULL,
  serial           TEXT NOT NULL,
  new_serial       TEXT NOT NULL,
  expires_at       INTEGER NOT NULL,
  new_expires_at   INTEGER NOT NULL,
  selectors        BLOB NOT NULL,
  banned           INTEGER NOT NULL,
  can_reattest     INTEGER NOT NULL,
  agent_version    TEXT NOT NULL
) STRICT;
CREATE INDEX agents_by_expiry ON agents (expires_at);

CREATE TABLE agent_selectors (
  selector TEXT NOT NULL,
  n        INTEGER NOT NULL,
  PRIMARY KEY (selector, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE join_tokens (
  token_sha256 BLOB PRIMARY KEY,  -- the token itself stands nowhere
  expires_at   INTEGER NOT NULL,
  alias_id     TEXT NOT NULL      -- empty: none
) STRICT, WITHOUT ROWID;

CREATE TABLE bundles (
  trust_domain    TEXT PRIMARY KEY,
  sequence_number INTEGER NOT NULL,
  refresh_hint    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle_x509_authorities (
  trust_domain TEXT NOT NULL,
  position     INTEGER NOT NULL,
  certificate  BLOB NOT NULL,  -- DER
  tainted      INTEGER NOT NULL,
  PRIMARY KEY (trust_domain, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE bundle_jwt_authorities (
  trust_domain TEXT NOT NULL,
  position     INTEGER NOT NULL,
  key_id       TEXT NOT NULL,
  public_key   BLOB NOT NULL,  -- DER SubjectPublicKeyInfo
  expires_at   INTEGER NOT NULL,
  tainted      INTEGER NOT NULL,
  PRIMARY KEY (trust_domain, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE journals (
  server_id TEXT PRIMARY KEY,
  journal   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE issued_svids (
  n          INTEGER PRIMARY KEY,
  serial     TEXT NOT NULL,
  spiffe_id  TEXT NOT NULL,
  entry_id   TEXT NOT NULL,
  agent_id   TEXT NOT NULL,
  key_sha256 TEXT NOT NULL,
  issued_at  INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;

-- The change feed. The last row is never pruned, so that no position is given twice.
CREATE TABLE changes (
  seq  INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  key  TEXT NOT NULL
) STRICT;
