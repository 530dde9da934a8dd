// signet_first_svid SOCKET: asks for an X.509-SVID again and again until there is one. For the start-up rows.
#include <time.h>

#include <cstdio>

#include "common/rpc/client_channel.h"
#include "common/rpc/tls_setup.h"
#include "spiffe/workload/workload.grpc.pb.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  signet::rpc::PrepareProcess();
  for (int attempt = 0; attempt < 10000; ++attempt) {
    auto stub = SpiffeWorkloadAPI::NewStub(signet::rpc::MakeUnixChannel(argv[1]));
    grpc::ClientContext context;
    context.AddMetadata("workload.spiffe.io", "true");
    auto reader = stub->FetchX509SVID(&context, {});
    X509SVIDResponse response;
    const bool ok = reader->Read(&response);
    context.TryCancel();
    (void)reader->Finish();
    if (ok && response.svids_size() > 0) return 0;
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  std::fprintf(stderr, "no SVID on %s\n", argv[1]);
  return 1;
}
