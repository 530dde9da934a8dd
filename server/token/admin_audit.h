// The audit record of one administrative call: who, which call, about what, for which user, and how it ended. Pure.
#pragma once

#include <string>

#include <google/protobuf/message.h>
#include <boost/json/object.hpp>

#include "absl/status/status.h"
#include "server/token/administration.h"

namespace signet::server {

boost::json::object AdminAuditRecord(const std::string& rpc, const AdminCaller& caller,
                                     const google::protobuf::Message& request,
                                     const google::protobuf::Message& response, const absl::Status& status);

}  // namespace signet::server
