// What the machine allows: the raw operations under every row, measured in the same run.
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/crypto/csr.h"
#include "common/crypto/key.h"
#include "tests/bench/measure.h"
#include "tests/bench/rows.h"

namespace signet::bench {
namespace {

std::string Each(const std::function<void()>& operation) {
  const Load load = Run(1, absl::Seconds(1), getpid(), [&](int) { operation(); });
  return absl::StrFormat("%.1f us, %.0f/s", 1e6 / load.operations_per_second, load.operations_per_second);
}

}  // namespace

void Limits() {
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  Check(key.ok(), "key");
  const auto signature = key->Sign(crypto::HashAlgorithm::kSha256, "message");
  const auto csr = crypto::CertificateRequest::Create(*key, {"spiffe://example.org/bench"});
  Check(signature.ok() && csr.ok(), "sign");
  PrintRow("-", "limit: ECDSA P-256 sign", Each([&] { (void)key->Sign(crypto::HashAlgorithm::kSha256, "message"); }), "-");
  PrintRow("-", "limit: ECDSA P-256 verify",
           Each([&] { (void)key->public_key().Verify(crypto::HashAlgorithm::kSha256, "message", *signature); }), "-");
  PrintRow("-", "limit: check of a CSR", Each([&] { (void)crypto::CertificateRequest::ParseAndVerify(*csr); }), "-");
  int fds[2];
  Check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
  std::thread echo([&] {
    char byte;
    while (read(fds[1], &byte, 1) == 1 && write(fds[1], &byte, 1) == 1) {
    }
  });
  PrintRow("-", "limit: Unix socket round trip", Each([&] {
             char byte = 0;
             Check(write(fds[0], &byte, 1) == 1 && read(fds[0], &byte, 1) == 1, "ping-pong");
           }),
           "-");
  close(fds[0]);
  echo.join();
  close(fds[1]);
}

}  // namespace signet::bench
