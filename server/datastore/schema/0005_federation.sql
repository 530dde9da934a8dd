-- Where the bundle of a foreign trust domain is fetched. The bundle itself stands in `bundles`, with or without this.
CREATE TABLE federation_relationships (
  n                   INTEGER PRIMARY KEY,
  trust_domain        TEXT NOT NULL UNIQUE,
  bundle_endpoint_url TEXT NOT NULL,
  endpoint_spiffe_id  TEXT NOT NULL  -- profile https_spiffe: whose certificate the endpoint shows; empty: https_web
) STRICT;
