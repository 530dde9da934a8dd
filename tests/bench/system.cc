#include "tests/bench/system.h"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/crypto/certificate.h"
#include "common/crypto/csr.h"
#include "common/rpc/client_channel.h"
#include "common/spiffe/x509_svid.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"

namespace signet::bench {
namespace agentv1 = spire::api::server::agent::v1;
namespace bundlev1 = spire::api::server::bundle::v1;
namespace entryv1 = spire::api::server::entry::v1;

void Check(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "bench: %s\n", what.c_str());
  std::exit(1);
}

std::shared_ptr<grpc::Channel> System::AdminChannel() const { return rpc::MakeUnixChannel(admin_socket); }
std::shared_ptr<grpc::Channel> System::WorkloadChannel() const { return rpc::MakeUnixChannel(workload_socket); }

std::shared_ptr<const spiffe::Bundle> FetchBundle(const System& system) {
  auto stub = bundlev1::Bundle::NewStub(system.AdminChannel());
  grpc::ClientContext context;
  spire::api::types::Bundle wire;
  const grpc::Status status = stub->GetBundle(&context, {}, &wire);
  Check(status.ok(), "GetBundle: " + status.error_message());
  spiffe::Bundle bundle{.trust_domain = *spiffe::TrustDomain::Parse(system.trust_domain)};
  for (const auto& authority : wire.x509_authorities()) {
    auto certificate = crypto::Certificate::Parse(authority.asn1());
    Check(certificate.ok(), "bundle holds a damaged certificate");
    bundle.x509_authorities.push_back({*certificate});
  }
  return std::make_shared<const spiffe::Bundle>(std::move(bundle));
}

std::string FindAgentPath(const System& system) {
  auto stub = agentv1::Agent::NewStub(system.AdminChannel());
  grpc::ClientContext context;
  agentv1::ListAgentsResponse response;
  const grpc::Status status = stub->ListAgents(&context, {}, &response);
  Check(status.ok() && response.agents_size() > 0, "no agent has attested: " + status.error_message());
  return response.agents(0).id().path();
}

spire::api::types::Entry MakeEntry(const System& system, const std::string& parent_path, const std::string& path,
                                   const std::string& selector_type, const std::string& selector_value) {
  spire::api::types::Entry entry;
  entry.mutable_parent_id()->set_trust_domain(system.trust_domain);
  entry.mutable_parent_id()->set_path(parent_path);
  entry.mutable_spiffe_id()->set_trust_domain(system.trust_domain);
  entry.mutable_spiffe_id()->set_path(path);
  auto* selector = entry.add_selectors();
  selector->set_type(selector_type);
  selector->set_value(selector_value);
  return entry;
}

std::vector<std::string> CreateEntries(const System& system, const std::vector<spire::api::types::Entry>& entries) {
  auto stub = entryv1::Entry::NewStub(system.AdminChannel());
  std::vector<std::string> ids;
  for (size_t at = 0; at < entries.size(); at += 500) {
    entryv1::BatchCreateEntryRequest request;
    for (size_t i = at; i < std::min(entries.size(), at + 500); ++i) *request.add_entries() = entries[i];
    grpc::ClientContext context;
    entryv1::BatchCreateEntryResponse response;
    const grpc::Status status = stub->BatchCreateEntry(&context, request, &response);
    Check(status.ok(), "BatchCreateEntry: " + status.error_message());
    for (const auto& result : response.results()) {
      Check(result.status().code() == 0, "entry refused: " + result.status().message());
      ids.push_back(result.entry().id());
    }
  }
  return ids;
}

void DeleteEntries(const System& system, const std::vector<std::string>& ids) {
  auto stub = entryv1::Entry::NewStub(system.AdminChannel());
  for (size_t at = 0; at < ids.size(); at += 500) {
    entryv1::BatchDeleteEntryRequest request;
    for (size_t i = at; i < std::min(ids.size(), at + 500); ++i) request.add_ids(ids[i]);
    grpc::ClientContext context;
    entryv1::BatchDeleteEntryResponse response;
    const grpc::Status status = stub->BatchDeleteEntry(&context, request, &response);
    Check(status.ok(), "BatchDeleteEntry: " + status.error_message());
  }
}

std::string MakeJoinToken(const System& system) {
  auto stub = agentv1::Agent::NewStub(system.AdminChannel());
  grpc::ClientContext context;
  agentv1::CreateJoinTokenRequest request;
  request.set_ttl(600);
  spire::api::types::JoinToken token;
  const grpc::Status status = stub->CreateJoinToken(&context, request, &token);
  Check(status.ok(), "CreateJoinToken: " + status.error_message());
  return token.value();
}

Node Join(System& system, const std::string& token) {
  const auto trust_domain = *spiffe::TrustDomain::Parse(system.trust_domain);
  rpc::ClientTls tls{.server_id = spiffe::ServerId(trust_domain), .identity = std::nullopt,
                     .bundle = [&system] { return system.bundle; }};
  auto stub = agentv1::Agent::NewStub(rpc::MakeTlsChannel(system.server_address, tls, system.clock));
  auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  Check(key.ok(), "key");
  auto csr = crypto::CertificateRequest::Create(*key, {});
  Check(csr.ok(), "csr");

  grpc::ClientContext context;
  auto stream = stub->AttestAgent(&context);
  agentv1::AttestAgentRequest request;
  request.mutable_params()->mutable_data()->set_type("join_token");
  request.mutable_params()->mutable_data()->set_payload(token);
  request.mutable_params()->mutable_params()->set_csr(*csr);
  stream->Write(request);
  agentv1::AttestAgentResponse response;
  if (!stream->Read(&response)) Check(false, "attestation: " + stream->Finish().error_message());
  stream->WritesDone();

  std::vector<crypto::Certificate> chain;
  for (const std::string& der : response.result().svid().cert_chain()) chain.push_back(*crypto::Certificate::Parse(der));
  auto svid = spiffe::X509Svid::Create(std::move(chain), *key);
  Check(svid.ok(), "agent SVID");
  Node node;
  node.path = response.result().svid().id().path();
  tls.identity = *std::move(svid);
  node.channel = rpc::MakeTlsChannel(system.server_address, std::move(tls), system.clock);
  return node;
}

}  // namespace signet::bench
