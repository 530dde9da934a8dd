#include "server/token/chain_lines.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/json/json.h"

namespace signet::server {
namespace {

constexpr size_t kMaxHops = 256, kMaxAuditBytes = 256 * 1024;

// The receipt that an audit record holds; empty: none.
std::string ReceiptOf(const AuditRecord& record) {
  const absl::StatusOr<boost::json::value> body = json::Parse(record.body, kMaxAuditBytes);
  if (!body.ok() || !body->is_object()) return "";
  const boost::json::value* receipt = body->get_object().if_contains("receipt");
  if (receipt == nullptr || !receipt->is_string()) return "";
  return std::string(receipt->get_string().data(), receipt->get_string().size());
}

}  // namespace

std::vector<Hop> HopsOf(const std::vector<AuditRecord>& records, const oauth::Keys& receipt_keys,
                        std::string& problem) {
  std::vector<Hop> hops;
  for (const AuditRecord& record : records) {
    std::string jws = ReceiptOf(record);
    if (jws.empty()) continue;
    absl::StatusOr<oauth::Receipt> receipt = oauth::VerifyReceipt(jws, receipt_keys);
    if (!receipt.ok()) {
      problem = absl::StrCat("audit record ", record.epoch, "/", record.seq, ": ", receipt.status().message());
      continue;
    }
    std::string hash = oauth::ReceiptHash(jws);
    hops.push_back({std::move(jws), std::move(hash), *std::move(receipt)});
  }
  return hops;
}

std::vector<Hop> PathTo(const std::vector<Hop>& hops, std::string hash) {
  std::vector<Hop> path;
  while (!hash.empty() && path.size() < kMaxHops) {
    const auto it = std::find_if(hops.begin(), hops.end(), [&](const Hop& hop) { return hop.hash == hash; });
    if (it == hops.end()) return {};
    path.push_back(*it);
    hash = it->receipt.previous;
  }
  std::reverse(path.begin(), path.end());
  return path;
}

bool IsOneLine(const std::vector<Hop>& hops) {
  for (size_t i = 0; i < hops.size(); ++i) {
    if (hops[i].receipt.previous != (i == 0 ? "" : hops[i - 1].hash)) return false;
  }
  return true;
}

}  // namespace signet::server
