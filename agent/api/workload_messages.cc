#include "agent/api/workload_messages.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <boost/json.hpp>
#include <utility>

#include "common/concurrency/mutex.h"
#include "spiffe/workload/workload.pb.h"

namespace signet::agent {
namespace {

namespace json = boost::json;

template <typename Visit>
void ForEachBundle(const WorkloadUpdate& update, Visit visit) {
  if (update.own_bundle != nullptr) visit(*update.own_bundle);
  for (const auto& [name, bundle] : update.federated_bundles) {
    if (bundle != nullptr) visit(*bundle);
  }
}

// A map is serialised in any order otherwise, and streams tell by the bytes whether there is anything new to send.
std::string Deterministic(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

google::protobuf::Value ToValue(const json::value& value) {
  google::protobuf::Value out;
  switch (value.kind()) {
    case json::kind::null:
      out.set_null_value(google::protobuf::NULL_VALUE);
      break;
    case json::kind::bool_:
      out.set_bool_value(value.get_bool());
      break;
    // Struct has no integers; a time keeps its exact value up to 2^53.
    case json::kind::int64:
      out.set_number_value(static_cast<double>(value.get_int64()));
      break;
    case json::kind::uint64:
      out.set_number_value(static_cast<double>(value.get_uint64()));
      break;
    case json::kind::double_:
      out.set_number_value(value.get_double());
      break;
    case json::kind::string:
      out.set_string_value(value.get_string().data(), value.get_string().size());
      break;
    case json::kind::array: {
      google::protobuf::ListValue& list = *out.mutable_list_value();
      for (const json::value& element : value.get_array()) *list.add_values() = ToValue(element);
      break;
    }
    case json::kind::object:
      *out.mutable_struct_value() = ToStruct(value.get_object(), nullptr);
      break;
  }
  return out;
}

}  // namespace

std::string EncodeX509Bundles(const WorkloadUpdate& update) {
  X509BundlesResponse response;
  ForEachBundle(update, [&](const spiffe::Bundle& bundle) {
    (*response.mutable_bundles())[bundle.trust_domain.IdString()] = bundle.X509Der();
  });
  return Deterministic(response);
}

std::string EncodeJwtBundles(const WorkloadUpdate& update) {
  JWTBundlesResponse response;
  ForEachBundle(update, [&](const spiffe::Bundle& bundle) {
    (*response.mutable_bundles())[bundle.trust_domain.IdString()] = bundle.ToJwtJwks();
  });
  return Deterministic(response);
}

Encoder RememberLast(std::function<std::string(const WorkloadUpdate&)> encode) {
  struct Last {
    Mutex mutex;
    std::weak_ptr<const WorkloadUpdate> update ABSL_GUARDED_BY(mutex);
    SharedMessage message ABSL_GUARDED_BY(mutex);
  };
  return [encode = std::move(encode), last = std::make_shared<Last>()](const UpdatePtr& update) {
    {
      MutexLock lock(last->mutex);
      if (last->message != nullptr && last->update.lock() == update) return last->message;
    }
    auto message = std::make_shared<const std::string>(encode(*update));
    MutexLock lock(last->mutex);
    last->update = update;
    last->message = message;
    return message;
  };
}

google::protobuf::Struct ToStruct(const json::object& claims, const std::vector<std::string>* keep) {
  google::protobuf::Struct out;
  for (const auto& [key, value] : claims) {
    const std::string name(key.data(), key.size());
    if (keep != nullptr && std::find(keep->begin(), keep->end(), name) == keep->end()) continue;
    (*out.mutable_fields())[name] = ToValue(value);
  }
  return out;
}

}  // namespace signet::agent
