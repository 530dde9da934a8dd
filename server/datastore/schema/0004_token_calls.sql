-- What a token with a quota has given to those exchanged for it (T8). No row: nothing yet. Of no use once the token has
-- expired, for then nothing can be exchanged for it.
CREATE TABLE token_calls (
  token      TEXT PRIMARY KEY,  -- hash of its jti
  given      INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_calls_by_expiry ON token_calls (expires_at);
