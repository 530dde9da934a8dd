// What a token costs inside the server, apart from TLS and HTTP: CPU of the whole process for each, 16 requests under
// way, the audit record durable before the answer. Beside it what the signatures alone cost in the same run. Usage:
// token_pipeline_bench [TOKENS [PART_OF_A_ROWS_NAME]]
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <functional>

#include "common/log/log.h"
#include "tests/server/token/service_kit.h"

namespace signet::server {
namespace {

absl::Duration Cpu() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

std::string only_row;

void Row(const std::string& what, int count, const std::function<void()>& run) {
  if (what.find(only_row) == std::string::npos) return;
  const absl::Duration cpu = Cpu();
  const absl::Time start = absl::Now();
  run();
  std::printf("%-52s %8.1f us CPU each  %8.0f /s\n", what.c_str(), absl::ToDoubleMicroseconds(Cpu() - cpu) / count,
              count / absl::ToDoubleSeconds(absl::Now() - start));
  std::fflush(stdout);
}

// Keeps 16 requests under way until all were answered; the number that was refused.
int Send(ServiceKit& kit, std::vector<TokenRequest>& requests) {
  constexpr size_t kUnderWay = 16;
  std::mutex mutex;
  std::condition_variable answered;
  size_t under_way = 0;
  int refused = 0;
  for (TokenRequest& request : requests) {
    {
      std::unique_lock lock(mutex);
      answered.wait(lock, [&] { return under_way < kUnderWay; });
      ++under_way;
    }
    kit.service->Token(std::move(request), [&](const TokenAnswer& answer) {
      std::lock_guard lock(mutex);
      --under_way;
      if (answer.status != 200) {
        if (refused++ == 0) std::printf("refused: %s\n", answer.body.c_str());
      }
      answered.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  answered.wait(lock, [&] { return under_way == 0; });
  return refused;
}

void Measure(const std::string& what, ServiceKit& kit, const std::string& client, const FormFields& fields, int count) {
  std::vector<TokenRequest> requests;
  for (int i = 0; i < count; ++i) requests.push_back(kit.RequestOf(client, fields));
  int refused = 0;
  Row(what, count, [&] { refused = Send(kit, requests); });
  if (refused > 0) std::printf("  %d of them were refused\n", refused);
}

int Main(int count) {
  log::SetLevel(log::Level::kError);
  ServiceKit kit;
  IdentityRecord record = kit.world.planner;
  record.own_authority = ExpandScopes(kit.world.orders_resource, {"orders:read"}, nullptr);
  record.version = 0;
  kit.Write<IdentityRecord>([&](auto done) { kit.store->UpdateIdentity(record, kit.clock.Now(), std::move(done)); });

  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const std::string text(600, 'x');
  std::string signature;
  Row("raw ES256 sign", count, [&] {
    for (int i = 0; i < count; ++i) signature = key.Sign(crypto::HashAlgorithm::kSha256, text).value();
  });
  Row("raw ES256 verify", count, [&] {
    for (int i = 0; i < count; ++i) {
      if (!key.public_key().Verify(crypto::HashAlgorithm::kSha256, text, signature).ok()) std::abort();
    }
  });

  FormFields own{{"grant_type", "client_credentials"}, {"resource", World::kOrdersUri}, {"scope", "orders:read"}};
  Measure("client_credentials, DPoP", kit, kit.planner, own, count);
  own["token_binding"] = "x5t";
  Measure("client_credentials, bound to the certificate", kit, kit.planner, own, count);

  FormFields hop{{"grant_type", ServiceKit::kExchange},
                 {"subject_token_type", ServiceKit::kAccessToken},
                 {"resource", World::kOrdersUri},
                 {"scope", "orders:read"}};
  hop["subject_token"] = kit.FirstToken();
  Measure("exchange, second hop, DPoP", kit, kit.worker, hop, count);
  hop["token_binding"] = "x5t";
  Measure("exchange, second hop, bound to the certificate", kit, kit.worker, hop, count);

  FormFields first = kit.FirstHop();
  first["grant_type"] = ServiceKit::kExchange;
  first["subject_token"] = kit.UserToken();
  first["subject_token_type"] = ServiceKit::kAccessToken;
  Measure("exchange, first hop in a task (with refresh), DPoP", kit, kit.planner, first, count);
  first.erase("task");
  Measure("exchange, first hop without task, DPoP", kit, kit.planner, first, count);
  return 0;
}

}  // namespace
}  // namespace signet::server

int main(int argc, char** argv) {
  if (argc > 2) signet::server::only_row = argv[2];
  return signet::server::Main(argc > 1 ? std::atoi(argv[1]) : 5000);
}
