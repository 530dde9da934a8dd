// Who calls: a local operator on admin.sock, the holder of an X.509-SVID over TLS, or nobody we know.
// Thread-safe. A proven chain is remembered for at most a minute, by its bytes and the bundle it was proven against, so
// that a call costs a look-up; a bundle that changes, or the chain's end, takes effect at the next call.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/server_context.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/certificate.h"
#include "common/rpc/unix_front.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"

namespace signet::server {

struct Caller {
  enum class Kind { kAnonymous, kLocal, kTls };
  Kind kind = Kind::kAnonymous;

  pid_t pid = 0;  // kLocal: of connect() time
  uid_t uid = 0;

  std::optional<spiffe::Id> id;                   // kTls: proven against the bundle of its trust domain
  std::string serial;                             // kTls: of the leaf, decimal
  absl::Time not_after = absl::InfiniteFuture();  // kTls: of the leaf
  std::vector<crypto::Certificate> chain;         // kTls: leaf first
  bool expired = false;                           // kTls: proven for the time before not_after, which has passed
  absl::Status problem;                           // kAnonymous: why the chain that was shown does not count

  std::string ToString() const;  // for logs: "local uid 0 pid 7", the SPIFFE ID, "anonymous"
};
using CallerPtr = std::shared_ptr<const Caller>;

// The bundle of a trust domain as it is now; null: that domain is not trusted.
using FindBundle = std::function<std::shared_ptr<const spiffe::Bundle>(const spiffe::TrustDomain&)>;

class CallerSource {
 public:
  virtual ~CallerSource() = default;
  // Never null; who cannot be proven is anonymous.
  virtual CallerPtr Identify(const grpc::ServerContextBase& context) = 0;
  // False once `caller` (kTls) would not be proven again: its chain no longer verifies under today's bundle.
  virtual bool StillVerifies(const Caller& caller) = 0;
};

// `front` may be null (no local socket). All must outlive the source.
std::unique_ptr<CallerSource> MakeCallerSource(FindBundle find_bundle, const rpc::UnixFront* front, Clock& clock);

// The two halves of it, for tests. Empty `leaf_pem`: anonymous.
class TlsCallers {
 public:
  TlsCallers(FindBundle find_bundle, Clock& clock);
  ~TlsCallers();
  CallerPtr Identify(absl::string_view leaf_pem, absl::string_view chain_pem);
  bool StillVerifies(const Caller& caller);
  size_t verifications() const;  // how often cryptography was done

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace signet::server
