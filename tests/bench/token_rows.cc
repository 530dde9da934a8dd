// Rows of the token service: tokens over mutual TLS, introspection at the agent, and how fast a revocation reaches all.
// The benchmark is the user's identity provider, the agent that asks, and the resource that judges.
#include <curl/curl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/crypto/pem.h"
#include "common/crypto/random.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "common/oauth/access_token.h"
#include "common/oauth/dpop.h"
#include "signet/server/token/v1/token.grpc.pb.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "tests/bench/measure.h"
#include "tests/bench/rows.h"

namespace signet::bench {
namespace tokenv1 = signet::server::token::v1;
namespace {

constexpr absl::Duration kLength = absl::Seconds(4);
constexpr int kCallers = 16;  // as Keycloak and Hydra were measured
constexpr char kBearer[] = "https://bench.example.org", kDpop[] = "https://bench-dpop.example.org";
constexpr char kUserIssuer[] = "https://idp.bench.example.org", kAudience[] = "https://exchange.bench.example.org";

size_t Append(char* data, size_t size, size_t count, void* user) {
  static_cast<std::string*>(user)->append(data, size * count);
  return size * count;
}

// A connection that is kept: one caller's.
class Https {
 public:
  Https(const std::string& certificate, const std::string& key, const std::string& roots) : curl_(curl_easy_init()) {
    const auto blob = [](const std::string& text) {
      return curl_blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
    };
    const curl_blob cert_blob = blob(certificate), key_blob = blob(key), roots_blob = blob(roots);
    curl_easy_setopt(curl_, CURLOPT_SSLCERT_BLOB, &cert_blob);
    curl_easy_setopt(curl_, CURLOPT_SSLKEY_BLOB, &key_blob);
    curl_easy_setopt(curl_, CURLOPT_CAINFO_BLOB, &roots_blob);
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &Append);
  }
  Https(const Https&) = delete;
  Https& operator=(const Https&) = delete;
  ~Https() { curl_easy_cleanup(curl_); }

  // The body of a 200; anything else ends the benchmark.
  std::string Post(const std::string& url, const std::string& form, const std::string& dpop = "") {
    std::string body;
    const long status = Ask(url, form, dpop, body);
    Check(status == 200, absl::StrCat(url, ": ", status, " ", body));
    return body;
  }
  // The status.
  long Ask(const std::string& url, const std::string& form, const std::string& dpop, std::string& body) {
    curl_slist* headers = dpop.empty() ? nullptr : curl_slist_append(nullptr, ("DPoP: " + dpop).c_str());
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, form.c_str());
    curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &body);
    const CURLcode code = curl_easy_perform(curl_);
    long status = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    Check(code == CURLE_OK, absl::StrCat(url, ": ", curl_easy_strerror(code)));
    return status;
  }

 private:
  CURL* const curl_;
};

// HTTP over a Unix socket with as little as possible around it: what is measured is the agent.
class UnixHttp {
 public:
  explicit UnixHttp(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    Check(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0, "connect " + path);
  }
  ~UnixHttp() { close(fd_); }
  UnixHttp(const UnixHttp&) = delete;
  UnixHttp& operator=(const UnixHttp&) = delete;

  std::string Post(const std::string& path, const std::string& form) {
    const std::string request = absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n",
                                             "Content-Length: ", form.size(), "\r\n\r\n", form);
    Check(write(fd_, request.data(), request.size()) == static_cast<ssize_t>(request.size()), "write to the agent");
    std::string answer;
    size_t end = std::string::npos, length = 0;
    char buffer[16384];
    while (end == std::string::npos || answer.size() < end + length) {
      const ssize_t n = read(fd_, buffer, sizeof(buffer));
      Check(n > 0, "the agent closed the connection: " + answer);
      answer.append(buffer, static_cast<size_t>(n));
      if (end != std::string::npos) continue;
      end = answer.find("\r\n\r\n");
      if (end == std::string::npos) continue;
      end += 4;
      for (const char* name : {"Content-Length: ", "content-length: "}) {
        const size_t at = answer.find(name);
        if (at < end) length = std::strtoul(answer.c_str() + at + 16, nullptr, 10);
      }
    }
    return answer.substr(end);
  }

 private:
  const int fd_;
};

std::string Encode(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == '~') {
      out.push_back(c);
    } else {
      absl::StrAppend(&out, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return out;
}

// One member of a flat JSON answer.
std::string Member(absl::string_view json, absl::string_view name) {
  const std::string key = absl::StrCat("\"", name, "\":\"");
  const size_t at = json.find(key);
  Check(at != absl::string_view::npos, absl::StrCat("no ", name, " in ", json));
  const size_t begin = at + key.size();
  return std::string(json.substr(begin, json.find('"', begin) - begin));
}

struct Play {
  System& system;
  std::unique_ptr<tokenv1::Administration::Stub> admin;
  std::string client_id, server_id, grant_id, certificate, key, server_certificate, server_key, roots;
  crypto::PrivateKey user_key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  crypto::PrivateKey dpop_key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);

  explicit Play(System& s) : system(s), admin(tokenv1::Administration::NewStub(s.AdminChannel())) {
    client_id = absl::StrCat("spiffe://", s.trust_domain, "/agent/bench/1");
    server_id = absl::StrCat("spiffe://", s.trust_domain, "/agent/bench-api/1");
    Register();
    FetchSvids();
  }

  template <typename Request, typename Response, typename Method>
  Response Call(Method method, const Request& request, const char* what) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = (admin.get()->*method)(&context, request, &response);
    Check(status.ok(), absl::StrCat(what, ": ", status.error_message()));
    return response;
  }

  void Register() {
    using Stub = tokenv1::Administration::Stub;
    const std::string agent = absl::StrCat("spiffe://", system.trust_domain, "/agent/");
    tokenv1::Identity server;
    server.set_spiffe_id(agent + "bench-api");
    server.set_owner("bench");
    server.set_state("active");
    server.set_risk("low");
    Call<tokenv1::Identity, tokenv1::Identity>(&Stub::CreateIdentity, server, "CreateIdentity");
    tokenv1::Identity client = server;
    client.set_spiffe_id(agent + "bench");
    for (const char* uri : {kBearer, kDpop}) {
      tokenv1::Resource resource;
      resource.set_uri(uri);
      resource.add_servers(server.spiffe_id());
      resource.set_minimum_binding(uri == kBearer ? "bearer" : "dpop");
      resource.add_default_scopes("read");
      (*resource.mutable_scopes())["read"].add_actions("read");
      Call<tokenv1::Resource, tokenv1::Resource>(&Stub::PutResource, resource, "PutResource");
      tokenv1::Authority authority;
      authority.set_resource(uri);
      authority.add_scopes("read");
      *client.add_ceiling() = authority;
      *client.add_own_authority() = authority;
    }
    Call<tokenv1::Identity, tokenv1::Identity>(&Stub::CreateIdentity, client, "CreateIdentity");
    tokenv1::Issuer issuer;
    issuer.set_url(kUserIssuer);
    oauth::Keys keys;
    keys.emplace("bench", user_key.public_key());
    issuer.set_jwks_json(oauth::KeysJson(keys));
    issuer.add_audiences(kAudience);
    for (const tokenv1::Authority& authority : client.ceiling()) *(*issuer.mutable_rights())["read"].add_authorities() = authority;
    Call<tokenv1::Issuer, tokenv1::Issuer>(&Stub::PutIssuer, issuer, "PutIssuer");
    tokenv1::Grant grant;
    grant.mutable_user()->set_issuer(kUserIssuer);
    grant.mutable_user()->set_subject("alice");
    grant.set_identity(client.spiffe_id());
    for (const tokenv1::Authority& authority : client.ceiling()) {
      grant.add_audiences(authority.resource());
      *grant.add_authority() = authority;
    }
    grant.set_expires_at(absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now() + absl::Hours(2), absl::UTCTimeZone()));
    grant_id = Call<tokenv1::Grant, tokenv1::Grant>(&Stub::CreateGrant, grant, "CreateGrant").id();
  }

  void FetchSvids() {
    for (const char* path : {"/agent/bench/1", "/agent/bench-api/1"}) {
      CreateEntries(system, {MakeEntry(system, system.agent_path, path, "unix", absl::StrCat("uid:", getuid()))});
    }
    auto stub = SpiffeWorkloadAPI::NewStub(system.WorkloadChannel());
    grpc::ClientContext context;
    context.AddMetadata("workload.spiffe.io", "true");
    auto stream = stub->FetchX509SVID(&context, {});
    X509SVIDResponse message;
    while (certificate.empty() || server_certificate.empty()) {
      Check(stream->Read(&message), "no SVIDs for the token rows");
      for (const auto& svid : message.svids()) {
        if (svid.spiffe_id() == client_id) {
          certificate = crypto::ToPem("CERTIFICATE", svid.x509_svid());
          key = crypto::ToPem("PRIVATE KEY", svid.x509_svid_key());
        } else if (svid.spiffe_id() == server_id) {
          server_certificate = crypto::ToPem("CERTIFICATE", svid.x509_svid());
          server_key = crypto::ToPem("PRIVATE KEY", svid.x509_svid_key());
        }
      }
    }
    context.TryCancel();
    for (const auto& authority : system.bundle->x509_authorities) roots += authority.certificate.Pem();
  }

  std::string UserToken() const {
    const int64_t now = absl::ToUnixSeconds(absl::Now());
    const std::string payload = absl::StrFormat(
        R"({"iss":"%s","sub":"alice","aud":"%s","iat":%d,"exp":%d,"auth_time":%d,"jti":"%s","client_id":"portal","scope":"read"})",
        kUserIssuer, kAudience, now, now + 600, now, crypto::RandomUuid());
    auto token = jose::SignCompact(R"({"alg":"ES256","kid":"bench","typ":"at+jwt"})", payload, crypto::KeyType::kEcP256,
                                   [this](crypto::HashAlgorithm hash, absl::string_view text) { return user_key.Sign(hash, text); });
    Check(token.ok(), "user's token");
    return *token;
  }
  std::string Proof(const std::string& method, const std::string& uri, const std::string& token) const {
    auto proof = oauth::MakeDpop(dpop_key, method, uri, token, "", absl::Now());
    Check(proof.ok(), "DPoP proof");
    return *proof;
  }
  std::string Endpoint() const { return system.token_issuer + "/oauth2/token"; }
  std::string ClientCredentialsForm(const char* resource) const {
    return absl::StrCat("grant_type=client_credentials&client_id=", Encode(client_id), "&resource=", Encode(resource));
  }
  std::string ExchangeForm(const std::string& user_token, const char* resource) const {
    return absl::StrCat("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token_type="
                        "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&client_id=",
                        Encode(client_id), "&resource=", Encode(resource), "&subject_token=", user_token);
  }
};

std::string RateAndCpu(const Load& load) {
  return absl::StrFormat("%.0f us CPU, %.0f/s, p50 %s, p99 %s", load.cpu_seconds_per_operation * 1e6, load.operations_per_second,
                         Micros(load.samples.Percentile(0.5)), Micros(load.samples.Percentile(0.99)));
}

void Minting(Play& play) {
  std::vector<std::unique_ptr<Https>> callers;
  for (int i = 0; i < kCallers; ++i) callers.push_back(std::make_unique<Https>(play.certificate, play.key, play.roots));
  const std::string own = play.ClientCredentialsForm(kBearer), own_dpop = play.ClientCredentialsForm(kDpop);
  const std::string user_token = play.UserToken();
  const std::string exchange = play.ExchangeForm(user_token, kBearer), exchange_dpop = play.ExchangeForm(user_token, kDpop);
  const pid_t pid = play.system.server_pid;
  PrintRow("P21", "client_credentials, mTLS, bearer, 16 callers",
           RateAndCpu(Run(kCallers, kLength, pid, [&](int i) { callers[i]->Post(play.Endpoint(), own); })), "300 us");
  PrintRow("P21", "the same with a DPoP proof (one verify more)", RateAndCpu(Run(kCallers, kLength, pid, [&](int i) {
             callers[i]->Post(play.Endpoint(), own_dpop, play.Proof("POST", play.Endpoint(), ""));
           })),
           "");
  PrintRow("P22", "token exchange of a user's ES256 token", RateAndCpu(Run(kCallers, kLength, pid, [&](int i) {
             callers[i]->Post(play.Endpoint(), exchange);
           })),
           "520 us");
  PrintRow("P22", "the same with a DPoP proof", RateAndCpu(Run(kCallers, kLength, pid, [&](int i) {
             callers[i]->Post(play.Endpoint(), exchange_dpop, play.Proof("POST", play.Endpoint(), ""));
           })),
           "");
}

void Introspection(Play& play) {
  Https https(play.certificate, play.key, play.roots);
  UnixHttp agent(play.system.token_socket);
  const auto form = [&](const std::string& token) {
    return absl::StrCat("client_id=", Encode(play.server_id), "&token=", token);
  };
  const auto judge = [&](const std::string& text) {
    const absl::Time before = absl::Now();
    const std::string answer = agent.Post("/oauth2/introspect", text);
    const absl::Duration took = absl::Now() - before;
    Check(absl::StrContains(answer, "\"active\":true"), "introspection: " + answer);
    return took;
  };
  Samples first, again;
  judge(form(Member(https.Post(play.Endpoint(), play.ClientCredentialsForm(kBearer)), "access_token")));
  absl::SleepFor(absl::Seconds(2));  // the agent has said that it is interested, and has the state
  // All tokens beforehand: the agent is as warm for a token it sees for the first time as for one it knows.
  std::vector<std::string> forms;
  for (int i = 0; i < 500; ++i) {
    forms.push_back(form(Member(https.Post(play.Endpoint(), play.ClientCredentialsForm(kBearer)), "access_token")));
  }
  for (const std::string& text : forms) {
    first.Add(judge(text));
    again.Add(judge(text));
  }
  PrintRow("P23", "introspection at the agent: seen before; first sight, p50",
           absl::StrCat(Micros(again.Percentile(0.5)), "; ", Micros(first.Percentile(0.5)), " (p99 ", Micros(again.Percentile(0.99)), "; ",
                        Micros(first.Percentile(0.99)), ")"),
           "150 us; 250 us");
}

// An agent that wants to know of revocations, and notes when it is told of the one that is waited for.
class Interested final : public grpc::ClientBidiReactor<signet::server::v1::AgentMessage, signet::server::v1::ServerMessage> {
 public:
  struct Waited {
    std::mutex mutex;
    std::condition_variable changed;
    std::string entity;
    int told = 0, ready = 0;
  };
  Interested(std::shared_ptr<grpc::Channel> channel, Waited& waited)
      : stub_(signet::server::v1::AgentSync::NewStub(std::move(channel))), waited_(waited) {
    stub_->async()->Sync(&context_, this);
    out_.emplace_back().mutable_hello()->set_agent_version("bench");
    writing_ = true;
    StartWrite(&out_.front());
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (message_.has_revisions() && message_.revisions().last()) {
      signet::server::v1::AgentMessage want, interest;
      want.mutable_want()->set_last(true);
      interest.mutable_token_interest()->set_wanted(true);
      Send(want);
      Send(interest);
    }
    if (message_.has_token_state()) {
      std::lock_guard lock(waited_.mutex);
      if (message_.token_state().complete() && !ready_) {
        ready_ = true;
        ++waited_.ready;
      }
      for (const auto& revocation : message_.token_state().revocations()) {
        if (revocation.entity() == waited_.entity) ++waited_.told;
      }
      waited_.changed.notify_all();
    }
    StartRead(&message_);
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    out_.erase(out_.begin());
    if (ok && !out_.empty()) {
      writing_ = true;
      StartWrite(&out_.front());
    }
  }
  void OnDone(const grpc::Status&) override { done_ = true; }
  void Cancel() { context_.TryCancel(); }
  bool done() const { return done_; }

 private:
  void Send(const signet::server::v1::AgentMessage& message) {
    std::lock_guard lock(mutex_);
    out_.push_back(message);
    if (writing_) return;
    writing_ = true;
    StartWrite(&out_.front());
  }

  std::unique_ptr<signet::server::v1::AgentSync::Stub> stub_;
  Waited& waited_;
  std::mutex mutex_;
  std::vector<signet::server::v1::AgentMessage> out_;
  bool writing_ = false, ready_ = false;
  std::atomic<bool> done_ = false;
  grpc::ClientContext context_;
  signet::server::v1::ServerMessage message_;
};

void Revocation(Play& play) {
  constexpr int kAgents = 200, kRounds = 50;
  std::vector<Node> nodes;
  for (int i = 0; i < kAgents; ++i) nodes.push_back(Join(play.system, MakeJoinToken(play.system)));
  Interested::Waited waited;
  std::vector<std::unique_ptr<Interested>> agents;
  for (Node& node : nodes) agents.push_back(std::make_unique<Interested>(node.channel, waited));
  {
    std::unique_lock lock(waited.mutex);
    Check(waited.changed.wait_for(lock, std::chrono::seconds(60), [&] { return waited.ready == kAgents; }),
          absl::StrCat("only ", waited.ready, " agents have the token state"));
  }
  Samples last;
  for (int round = 0; round < kRounds; ++round) {
    tokenv1::RevokeRequest request;
    request.set_kind("token");
    request.set_entity(crypto::RandomUuid());
    request.set_reason("bench");
    {
      std::lock_guard lock(waited.mutex);
      waited.entity = request.entity();
      waited.told = 0;
    }
    const absl::Time before = absl::Now();
    play.Call<tokenv1::RevokeRequest, tokenv1::Revocation>(&tokenv1::Administration::Stub::Revoke, request, "Revoke");
    std::unique_lock lock(waited.mutex);
    Check(waited.changed.wait_for(lock, std::chrono::seconds(10), [&] { return waited.told >= kAgents; }), "a revocation got lost");
    last.Add(absl::Now() - before);
  }
  PrintRow("P23", "revoke -> last of 200 agents told: p50, p99",
           absl::StrCat(Micros(last.Percentile(0.5)), ", ", Micros(last.Percentile(0.99))), "1 s");
  for (auto& agent : agents) agent->Cancel();
  for (auto& agent : agents) {
    while (!agent->done()) absl::SleepFor(absl::Milliseconds(1));
  }
}

void Memory(Play& play) {
  constexpr int kTokens = 100'000;
  std::vector<std::unique_ptr<Https>> callers;
  for (int i = 0; i < kCallers; ++i) callers.push_back(std::make_unique<Https>(play.certificate, play.key, play.roots));
  const std::string form = play.ClientCredentialsForm(kBearer);
  for (int i = 0; i < kCallers; ++i) callers[i]->Post(play.Endpoint(), form);
  const double before = RssMegabytes(play.system.server_pid);
  std::atomic<int> left = kTokens;
  std::vector<std::thread> threads;
  for (int i = 0; i < kCallers; ++i) {
    threads.emplace_back([&, i] {
      while (left-- > 0) callers[i]->Post(play.Endpoint(), form);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double after = RssMegabytes(play.system.server_pid);
  PrintRow("P24", "100 000 live tokens: server RSS before, after",
           absl::StrFormat("%.1f MB, %.1f MB (%.0f B a token)", before, after, (after - before) * 1e6 / kTokens), "10 MB in all");
}

// Sixteen callers exchange at full speed while the grant they stand on is revoked. What they asked for after the
// revocation had returned must be refused (T3). The last row: nothing can be exchanged after it.
void AfterRevoking(Play& play) {
  std::vector<std::unique_ptr<Https>> callers;
  for (int i = 0; i < kCallers; ++i) callers.push_back(std::make_unique<Https>(play.certificate, play.key, play.roots));
  const std::string exchange = play.ExchangeForm(play.UserToken(), kBearer);
  std::atomic<bool> revoked = false, stop = false;
  std::atomic<int> before = 0, after = 0, refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kCallers; ++i) {
    threads.emplace_back([&, i] {
      while (!stop) {
        const bool too_late = revoked;
        std::string body;
        const bool issued = callers[i]->Ask(play.Endpoint(), exchange, "", body) == 200;
        ++(!issued ? refused : too_late ? after : before);
      }
    });
  }
  absl::SleepFor(absl::Seconds(2));
  tokenv1::RevokeRequest request;
  request.set_kind("grant");
  request.set_entity(play.grant_id);
  request.set_reason("bench");
  play.Call<tokenv1::RevokeRequest, tokenv1::Revocation>(&tokenv1::Administration::Stub::Revoke, request, "Revoke");
  revoked = true;
  absl::SleepFor(absl::Seconds(2));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  Check(before > 0 && refused > 0, "the revocation fell into no rush");
  PrintRow("P23", "tokens issued after revoke returned, 16 callers at full speed",
           absl::StrCat(after.load(), " (", before.load(), " before, ", refused.load(), " refused)"), "0");
}

}  // namespace

void Tokens(System& system) {
  if (system.token_issuer.empty()) return;
  Check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, "libcurl");
  Play play(system);
  Minting(play);
  Introspection(play);
  Revocation(play);
  Memory(play);
  AfterRevoking(play);
}

}  // namespace signet::bench
