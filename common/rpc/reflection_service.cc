#include "common/rpc/reflection_service.h"

#include <set>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"

namespace signet::rpc {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;

namespace v1 = grpc::reflection::v1;
namespace v1alpha = grpc::reflection::v1alpha;

// Both versions have messages of the same shape.
struct V1 {
  using Service = v1::ServerReflection::CallbackService;
  using Request = v1::ServerReflectionRequest;
  using Response = v1::ServerReflectionResponse;
};
struct V1Alpha {
  using Service = v1alpha::ServerReflection::CallbackService;
  using Request = v1alpha::ServerReflectionRequest;
  using Response = v1alpha::ServerReflectionResponse;
};

// A file and all it imports, each once, dependencies included: callers build a pool of it without asking again.
void AddFile(const FileDescriptor& file, std::set<const FileDescriptor*>& seen,
             google::protobuf::RepeatedPtrField<std::string>& out) {
  if (!seen.insert(&file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  *out.Add() = proto.SerializeAsString();
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), seen, out);
}

template <typename V>
void Answer(const typename V::Request& request, const std::vector<std::string>& services,
            typename V::Response& response) {
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  const auto not_found = [&](absl::string_view what) {
    response.mutable_error_response()->set_error_code(grpc::StatusCode::NOT_FOUND);
    response.mutable_error_response()->set_error_message(absl::StrCat("not known here: ", absl::CHexEscape(what)));
  };
  const auto file_or_not_found = [&](const FileDescriptor* file, absl::string_view what) {
    if (file == nullptr) return not_found(what);
    std::set<const FileDescriptor*> seen;
    AddFile(*file, seen, *response.mutable_file_descriptor_response()->mutable_file_descriptor_proto());
  };
  switch (request.message_request_case()) {
    case V::Request::kListServices:
      for (const std::string& name : services) response.mutable_list_services_response()->add_service()->set_name(name);
      return;
    case V::Request::kFileByFilename:
      return file_or_not_found(pool.FindFileByName(request.file_by_filename()), request.file_by_filename());
    case V::Request::kFileContainingSymbol:
      return file_or_not_found(pool.FindFileContainingSymbol(request.file_containing_symbol()),
                               request.file_containing_symbol());
    case V::Request::kFileContainingExtension: {  // proto3 has none: answered for the form's sake
      const auto& extension = request.file_containing_extension();
      const auto* type = pool.FindMessageTypeByName(extension.containing_type());
      const auto* field = type == nullptr ? nullptr : pool.FindExtensionByNumber(type, extension.extension_number());
      return file_or_not_found(field == nullptr ? nullptr : field->file(), extension.containing_type());
    }
    case V::Request::kAllExtensionNumbersOfType:
      if (pool.FindMessageTypeByName(request.all_extension_numbers_of_type()) == nullptr) {
        return not_found(request.all_extension_numbers_of_type());
      }
      response.mutable_all_extension_numbers_response()->set_base_type_name(request.all_extension_numbers_of_type());
      return;
    default:
      response.mutable_error_response()->set_error_code(grpc::StatusCode::INVALID_ARGUMENT);
      response.mutable_error_response()->set_error_message("the request asks nothing");
  }
}

// Strictly in turn: read, answer, read.
template <typename V>
class ReflectionReactor final : public grpc::ServerBidiReactor<typename V::Request, typename V::Response> {
 public:
  ReflectionReactor(const std::vector<std::string>& services, const absl::Status& admitted) : services_(services) {
    if (admitted.ok()) {
      this->StartRead(&request_);
    } else {
      this->Finish(ToGrpc(admitted));
    }
  }
  void OnReadDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::OK);  // the caller has no more questions, or is gone
    response_.Clear();
    Answer<V>(request_, services_, response_);
    this->StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::CANCELLED);
    this->StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>& services_;
  typename V::Request request_;
  typename V::Response response_;
};

template <typename V>
class ReflectionService final : public V::Service {
 public:
  ReflectionService(std::vector<std::string> services, Authorise authorise)
      : services_(std::move(services)), authorise_(std::move(authorise)) {}

  grpc::ServerBidiReactor<typename V::Request, typename V::Response>* ServerReflectionInfo(
      grpc::CallbackServerContext* context) override {
    return new ReflectionReactor<V>(services_, authorise_(*context));
  }

 private:
  const std::vector<std::string> services_;
  const Authorise authorise_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services, Authorise authorise) {
  return std::make_unique<ReflectionService<V1>>(std::move(services), std::move(authorise));
}
std::unique_ptr<grpc::Service> MakeReflectionV1AlphaService(std::vector<std::string> services, Authorise authorise) {
  return std::make_unique<ReflectionService<V1Alpha>>(std::move(services), std::move(authorise));
}

}  // namespace signet::rpc
