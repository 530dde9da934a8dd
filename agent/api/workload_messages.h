// The messages of the Workload API that are made here: bundles, and the claims of a token.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <google/protobuf/struct.pb.h>
#include <boost/json/fwd.hpp>

#include "agent/api/update_stream.h"

namespace signet::agent {

// X509BundlesResponse and JWTBundlesResponse: the own trust domain always, and what the caller's entries federate with
// (WL-14, WL-20). Own and foreign tainted authorities included: what they signed is still to be verified.
std::string EncodeX509Bundles(const WorkloadUpdate& update);
std::string EncodeJwtBundles(const WorkloadUpdate& update);

// Remembers the last message, which is the same for all streams that share an update.
Encoder RememberLast(std::function<std::string(const WorkloadUpdate&)> encode);

// The claims of `claims` that `keep` names; all of them when it is null.
google::protobuf::Struct ToStruct(const boost::json::object& claims, const std::vector<std::string>* keep);

}  // namespace signet::agent
