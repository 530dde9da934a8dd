// What a BundleChange does to a bundle: pure, the same for every store.
#pragma once

#include "common/spiffe/bundle.h"
#include "server/datastore/records.h"

namespace signet::server {

// Adds authorities that the bundle lacks (an X.509 authority is known by its certificate, a JWT authority by its key
// id; what is there stays as it is), then drops those that ended before `remove_expired_before`; a JWT authority
// without an end stays. True when the content changed: then the sequence number has grown by one.
bool Apply(const BundleChange& change, spiffe::Bundle& bundle);

}  // namespace signet::server
