// Pods, nodes, TokenReviews and names: what is read of the API server's answers (Z6).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/kubernetes/names.h"
#include "common/kubernetes/node.h"
#include "common/kubernetes/pod.h"
#include "common/kubernetes/token_review.h"
#include "tests/testing/status_matchers.h"

namespace signet::kubernetes {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

constexpr char kPod[] = R"({"metadata":{"namespace":"ns","name":"p-1","uid":"u-1","resourceVersion":"7",
  "labels":{"app":"x"},"ownerReferences":[{"kind":"ReplicaSet","name":"rs","uid":"o-1"}]},
  "spec":{"nodeName":"node1","serviceAccountName":"sa",
    "initContainers":[{"name":"i","image":"init:1"}],"containers":[{"name":"c","image":"main:1"}]},
  "status":{"phase":"Running","hostIP":"10.0.0.1",
    "containerStatuses":[{"name":"c","image":"main:1","imageID":"main@sha256:ab","containerID":"containerd://f00"}],
    "initContainerStatuses":[{"name":"i","image":"init:1","imageID":"","containerID":""}]}})";

std::string ListOf(absl::string_view items, absl::string_view more = "") {
  return absl::StrCat(R"({"metadata":{"resourceVersion":"9","continue":")", more, R"("},"items":[)", items, "]}");
}

TEST(PodTest, ReadsWhatIdentifiesAPod) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PodList list, ParsePodList(ListOf(kPod)));
  ASSERT_EQ(list.pods.size(), 1u);
  const Pod& pod = list.pods[0];
  EXPECT_EQ(pod.namespace_name, "ns");
  EXPECT_EQ(pod.name, "p-1");
  EXPECT_EQ(pod.uid, "u-1");
  EXPECT_EQ(pod.node_name, "node1");
  EXPECT_EQ(pod.service_account, "sa");
  EXPECT_EQ(pod.phase, "Running");
  EXPECT_EQ(pod.host_ip, "10.0.0.1");
  EXPECT_THAT(pod.labels, ElementsAre(Pair("app", "x")));
  ASSERT_EQ(pod.owners.size(), 1u);
  EXPECT_EQ(pod.owners[0].kind, "ReplicaSet");
  ASSERT_EQ(pod.containers.size(), 2u);
  EXPECT_EQ(pod.containers[0].kind, Container::Kind::kInit);
  EXPECT_EQ(pod.containers[0].id, "");
  EXPECT_EQ(pod.containers[1].runtime, "containerd");
  EXPECT_EQ(pod.containers[1].id, "f00");
  EXPECT_EQ(pod.containers[1].image_id, "main@sha256:ab");
  EXPECT_FALSE(pod.deleted);
}

TEST(PodTest, OneOddPodHidesNoOther) {
  int malformed = 0;
  SIGNET_ASSERT_OK_AND_ASSIGN(
      const PodList list,
      ParsePodList(ListOf(absl::StrCat(R"({"metadata":{"namespace":"../x","name":"a","uid":"u"}},7,)", kPod)),
                   &malformed));
  EXPECT_EQ(list.pods.size(), 1u);
  EXPECT_EQ(malformed, 2);
  EXPECT_THAT(ParsePodList("[]"), StatusIs(absl::StatusCode::kInvalidArgument));
  SIGNET_EXPECT_OK(ParsePodList(R"({"metadata":{},"items":null})"));
}

TEST(PodTest, NestingIsBounded) {  // Z6
  const std::string deep = std::string(100'000, '[');
  EXPECT_THAT(ParsePodList(deep), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too deep")));
  // Deeper than our own documents are: what a real pod's managedFields nest.
  std::string fields = "1";
  for (int i = 0; i < 16; ++i) fields = absl::StrCat(R"({"f:x":)", fields, "}");
  SIGNET_EXPECT_OK(ParsePodList(
      ListOf(absl::StrCat(R"({"metadata":{"namespace":"ns","name":"p","uid":"u","managedFields":[)", fields, "]}}"))));
}

// Whoever may make pods must not be able to hide those of others (F15).
TEST(PodTest, ALargePodHidesNoOther) {
  std::string args, labels;
  for (int i = 0; i < 150'000; ++i) absl::StrAppend(&args, i == 0 ? "" : ",", "\"\"");
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&labels, i == 0 ? "" : ",", "\"l", i, "\":\"\"");
  const std::string fat =
      absl::StrCat(R"({"metadata":{"namespace":"ns","name":"fat","uid":"f","labels":{)", labels,
                   R"(},"managedFields":[{"fieldsV1":{"f:)", std::string(5000, 'x'),
                   R"(":{}}}]},"spec":{"containers":[{"name":"c","image":"i","args":[)", args, "]}]}}");
  SIGNET_ASSERT_OK_AND_ASSIGN(const PodList list, ParsePodList(ListOf(absl::StrCat(fat, ",", kPod))));
  ASSERT_EQ(list.pods.size(), 2u);
  EXPECT_EQ(list.pods[0].name, "fat");
}

// Nor use up the memory of who keeps all pods of a node (W10). Once too large it is not what it was before, either.
TEST(PodTest, OfAPodThatSaysTooMuchNothingIsKept) {
  const auto with_labels = [](int count) {
    std::string labels = R"("app":"web")";
    for (int i = 0; i < count; ++i) absl::StrAppend(&labels, ",\"l", i, "\":\"", std::string(63, 'v'), "\"");
    return absl::StrCat(R"({"metadata":{"namespace":"ns","name":"p","uid":"u","labels":{)", labels,
                        R"(}},"spec":{"containers":[{"name":"c","image":"i"}]}})");
  };
  SIGNET_ASSERT_OK_AND_ASSIGN(const Pod many, ParsePod(with_labels(1000)));
  EXPECT_EQ(many.labels.size(), 1001u);
  SIGNET_ASSERT_OK_AND_ASSIGN(const Pod too_many, ParsePod(with_labels(10'000)));
  EXPECT_EQ(too_many.uid, "u");
  EXPECT_TRUE(too_many.too_large);
  EXPECT_TRUE(too_many.labels.empty());
  EXPECT_TRUE(too_many.containers.empty());
}

TEST(PodTest, ALabelMayHaveTheNameOfWhatIsLeftOut) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PodList list, ParsePodList(ListOf(R"({"metadata":{"namespace":"ns","name":"p",
    "uid":"u","managedFields":[{"a":[1,{"b":[]}]},7],"labels":{"managedFields":"x"}}})")));
  ASSERT_EQ(list.pods.size(), 1u);
  EXPECT_THAT(list.pods[0].labels, ElementsAre(Pair("managedFields", "x")));
}

TEST(PodTest, AMirrorPodTellsTheUidItsStaticPodHas) {
  const auto uid_of = [](absl::string_view annotation, absl::string_view owner) {
    const auto list = ParsePodList(ListOf(absl::StrCat(
        R"({"metadata":{"namespace":"ns","name":"p","uid":"u","annotations":{"kubernetes.io/config.mirror":")",
        annotation, R"("},"ownerReferences":[{"kind":")", owner, R"(","name":"n","uid":"o"}]}})")));
    return list.ok() && !list->pods.empty() ? list->pods[0].static_uid : "none";
  };
  EXPECT_EQ(uid_of("0123456789abcdef0123456789abcdef", "Node"), "0123456789abcdef0123456789abcdef");
  // W5: an annotation is the pod creator's word; it must never name another pod's uid.
  EXPECT_EQ(uid_of("45b3cc72-7b96-46d6-b878-a879194290f7", "Node"), "");
  EXPECT_EQ(uid_of("0123456789abcdef0123456789abcdef", "Job"), "");
}

TEST(PodTest, ReadsTheLinesOfAWatch) {
  SIGNET_ASSERT_OK_AND_ASSIGN(PodEvent event, ParsePodEvent(absl::StrCat(R"({"type":"DELETED","object":)", kPod, "}")));
  EXPECT_EQ(event.type, PodEvent::Type::kDeleted);
  EXPECT_EQ(event.pod.uid, "u-1");
  EXPECT_EQ(event.resource_version, "7");
  SIGNET_ASSERT_OK_AND_ASSIGN(
      event, ParsePodEvent(R"({"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}})"));
  EXPECT_EQ(event.type, PodEvent::Type::kBookmark);
  EXPECT_EQ(event.resource_version, "12");
  SIGNET_ASSERT_OK_AND_ASSIGN(
      event, ParsePodEvent(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}})"));
  EXPECT_EQ(event.type, PodEvent::Type::kError);
  EXPECT_THAT(event.error, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("too old")));
  SIGNET_ASSERT_OK_AND_ASSIGN(event, ParsePodEvent(R"({"type":"WHAT","object":{}})"));
  EXPECT_FALSE(event.error.ok());
  EXPECT_THAT(ParsePodEvent("{}"), StatusIs(absl::StatusCode::kInvalidArgument));
}

// Answers each GET with the next of the prepared pages; "" is one that is too large.
class Pages final : public ApiClient {
 public:
  explicit Pages(std::vector<std::string> pages) : pages_(std::move(pages)) {}
  absl::StatusOr<std::string> Get(const std::string& path, const CallOptions&) override {
    paths.push_back(path);
    const std::string& page = pages_.at(paths.size() - 1);
    if (page.empty()) return absl::FailedPreconditionError("answer larger than");
    return page;
  }
  absl::StatusOr<std::string> Post(const std::string&, absl::string_view, const CallOptions&) override {
    return absl::UnimplementedError("post");
  }
  absl::StatusOr<std::string> Patch(const std::string&, const std::string&, absl::string_view,
                                    const CallOptions&) override {
    return absl::UnimplementedError("patch");
  }
  absl::Status Watch(const std::string&, const OnLine&, const WatchOptions&) override {
    return absl::UnimplementedError("watch");
  }
  std::vector<std::string> paths;

 private:
  const std::vector<std::string> pages_;
};

TEST(PodTest, AListGoesOnUntilItsLastPage) {
  Pages pages({ListOf(kPod, "a/b"), ListOf(kPod)});
  SIGNET_ASSERT_OK_AND_ASSIGN(const PodList list, ListPods(pages, "/api/v1/pods?x=1", 500, 10, {}));
  EXPECT_EQ(list.pods.size(), 2u);
  EXPECT_EQ(list.resource_version, "9");
  EXPECT_THAT(pages.paths, ElementsAre("/api/v1/pods?x=1&limit=500", "/api/v1/pods?x=1&limit=500&continue=a%2fb"));
  Pages large({"", "", ListOf(kPod)});
  SIGNET_EXPECT_OK(ListPods(large, "/p?x=1", 4, 10, {}));
  EXPECT_THAT(large.paths, ElementsAre("/p?x=1&limit=4", "/p?x=1&limit=2", "/p?x=1&limit=1"));
  Pages hopeless({"", ""});
  EXPECT_THAT(ListPods(hopeless, "/p?x=1", 2, 10, {}), StatusIs(absl::StatusCode::kFailedPrecondition));
  Pages endless({ListOf(kPod, "x"), ListOf(kPod, "x")});
  EXPECT_THAT(ListPods(endless, "/p?x=1", 500, 1, {}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(NodeTest, ReadsNameUidAndLabels) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const Node node,
                              ParseNode(R"({"metadata":{"name":"n","uid":"u","labels":{"zone":"a","odd":1}}})"));
  EXPECT_EQ(node.uid, "u");
  EXPECT_THAT(node.labels, ElementsAre(Pair("zone", "a")));
  EXPECT_THAT(ParseNode(R"({"metadata":{"name":"n"}})"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(NamesTest, NothingThatChangesAPathIsAName) {
  for (const char* bad : {"", "..", "a/b", "A", "a_b", "-a", "a-", "a..b", "a%2f", "a?b", "a b"}) {
    EXPECT_FALSE(IsName(bad)) << bad;
    EXPECT_FALSE(IsLabel(bad)) << bad;
  }
  for (const char* bad : {"", ".", "..", "a/b", "a b"}) EXPECT_FALSE(IsUid(bad)) << bad;
  EXPECT_TRUE(IsName("ip-10-0-0-1.eu.internal"));
  EXPECT_FALSE(IsLabel("a.b"));
  EXPECT_EQ(EscapeQuery("a=b&c/d~e"), "a%3db%26c%2fd~e");
}

// What a real API server (1.34) answers, shortened.
std::string Review(absl::string_view status) {
  return absl::StrCat(R"({"kind":"TokenReview","spec":{"token":"sekret"},"status":)", status, "}");
}
std::string Authenticated(absl::string_view audiences, absl::string_view username, absl::string_view extra) {
  return Review(absl::StrCat(R"({"authenticated":true,"audiences":)", audiences, R"(,"user":{"username":")", username,
                             R"(","extra":{)", extra, "}}}"));
}
constexpr char kExtra[] = R"("authentication.kubernetes.io/pod-name":["p"],"authentication.kubernetes.io/pod-uid":["u"],
  "authentication.kubernetes.io/node-name":["n"],"authentication.kubernetes.io/node-uid":["nu"])";
constexpr char kUser[] = "system:serviceaccount:signet:signet-agent";

absl::StatusOr<ReviewedToken> Read(const std::string& answer) {
  return ReadTokenReview(answer, {"spire-server"}, "sekret");
}

TEST(TokenReviewTest, ReadsWhoseTokenItIs) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ReviewedToken token, Read(Authenticated(R"(["spire-server"])", kUser, kExtra)));
  EXPECT_EQ(token.namespace_name, "signet");
  EXPECT_EQ(token.service_account, "signet-agent");
  EXPECT_EQ(token.pod_name, "p");
  EXPECT_EQ(token.pod_uid, "u");
  EXPECT_EQ(token.node_name, "n");
  EXPECT_EQ(token.node_uid, "nu");
}

TEST(TokenReviewTest, AsksForItsAudiences) {
  EXPECT_EQ(
      TokenReviewRequest("t\"", {"a", "b"}),
      R"({"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"t\"","audiences":["a","b"]}})");
}

TEST(TokenReviewTest, RefusesAllElse) {
  const std::pair<std::string, std::string> cases[] = {
      {Review(R"({"error":"token has expired"})"), "token has expired"},
      {Review(R"({"authenticated":false})"), "does not accept"},
      {Review(R"({"authenticated":"true"})"), "does not accept"},
      {Authenticated(R"(["other"])", kUser, kExtra), "audience"},
      // An API server that ignores audiences says none: its yes means nothing.
      {Authenticated("[]", kUser, kExtra), "audience"},
      {Authenticated("null", kUser, kExtra), "audience"},
      {Authenticated(R"(["spire-server"])", "admin", kExtra), "not that of a service account"},
      {Authenticated(R"(["spire-server"])", "system:serviceaccount:a:b:c", kExtra), "not that of a service account"},
      {Authenticated(R"(["spire-server"])", "system:serviceaccount:../x:y", kExtra), "not that of a service account"},
      {Authenticated(R"(["spire-server"])", kUser, ""), "not bound to a pod"},
      {Authenticated(R"(["spire-server"])", kUser, R"("authentication.kubernetes.io/pod-name":["../x"],
         "authentication.kubernetes.io/pod-uid":["u"])"),
       "not bound to a pod"},
      {Authenticated(R"(["spire-server"])", kUser, R"("authentication.kubernetes.io/pod-name":["p","q"],
         "authentication.kubernetes.io/pod-uid":["u"])"),
       "one pod-name"},
      {Authenticated(R"(["spire-server"])", kUser, R"("authentication.kubernetes.io/pod-name":["p"],
         "authentication.kubernetes.io/pod-uid":["u"],"authentication.kubernetes.io/node-name":["n"])"),
       "not named in full"},
      {Authenticated(R"(["spire-server"])", kUser, R"("authentication.kubernetes.io/pod-name":["p"],
         "authentication.kubernetes.io/pod-uid":["u"],"authentication.kubernetes.io/node-name":["n","m"],
         "authentication.kubernetes.io/node-uid":["nu","mu"])"),
       "one node-name"},  // not taken for an API server that names no node
  };
  for (const auto& [answer, told] : cases) {
    EXPECT_THAT(Read(answer), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(told))) << answer;
  }
  EXPECT_THAT(Read("{}"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TokenReviewTest, NoErrorRepeatsTheToken) {
  EXPECT_THAT(Read(Review(R"({"error":"cannot parse sekret"})")),
              StatusIs(absl::StatusCode::kPermissionDenied, Not(HasSubstr("sekret"))));
}

}  // namespace
}  // namespace signet::kubernetes
