// The receipts of a chain as the audit holds them. A chain is a tree when a token was narrowed or handed on more than
// once; a line is what leads to one receipt. Pure.
#pragma once

#include <string>
#include <vector>

#include "common/oauth/receipt.h"
#include "server/datastore/token_records.h"

namespace signet::server {

struct Hop {
  std::string jws, hash;  // hash: oauth::ReceiptHash, as the next one and the token name it
  oauth::Receipt receipt;
};

// In the order of the records. One that does not verify is left out and told in `problem`.
std::vector<Hop> HopsOf(const std::vector<AuditRecord>& records, const oauth::Keys& receipt_keys, std::string& problem);
// The hops that lead to the one with this hash, first hop first; empty: one of them is not there.
std::vector<Hop> PathTo(const std::vector<Hop>& hops, std::string hash);
bool IsOneLine(const std::vector<Hop>& hops);

}  // namespace signet::server
