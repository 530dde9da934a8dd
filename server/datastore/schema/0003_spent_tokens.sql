-- A spent token stays for a while, with the SHA-256 of the key that spent it: the answer may not have reached its agent,
-- which may then show the token again with that key. Its expires_at is then the end of that time.
ALTER TABLE join_tokens ADD COLUMN spent_by BLOB NOT NULL DEFAULT x'';  -- empty: unspent
