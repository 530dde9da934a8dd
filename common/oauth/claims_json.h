// The parts that tokens, receipts and answers share, as JSON values. Not for use outside.
#pragma once

#include <optional>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "absl/status/statusor.h"
#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "common/oauth/members.h"
#include "common/oauth/receipt.h"

namespace signet::oauth {

boost::json::array AtomsJson(const Atoms& atoms);
absl::StatusOr<Atoms> ReadAtoms(const boost::json::value& value);

boost::json::array DetailsJson(const Atoms& atoms, std::optional<int64_t> max_calls);
absl::StatusOr<std::vector<ToolCallDetails>> ReadDetails(const boost::json::value& value);

// `cnf`; of a bearer token empty.
boost::json::object BindingJson(const Binding& binding);
Binding ReadBinding(Members& members);

boost::json::object ClaimsObject(const AccessToken& token);
boost::json::object ReceiptObject(const Receipt& receipt);

}  // namespace signet::oauth
