// THE table: every RPC on the server's wire and who may call it (SPIRE's default rights, its policy_data.json).
// A method that is not here cannot be called: its service has no name to ask the Authorizer with, and a test walks the
// descriptors of every registered service against this table.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace signet::server {

// Who may call. More than one: any of them is enough.
enum Grant : uint8_t {
  kLocal = 1,       // admin.sock
  kAdmin = 2,       // an SVID whose ID is in admin_ids or has an entry with the admin flag
  kAgent = 4,       // the current SVID of an attested agent that is not banned
  kDownstream = 8,  // an SVID whose ID has an entry with the downstream flag
  kAny = 16,        // everybody, without an SVID too
  kOwnAdmin = 32,   // as kAdmin, of the own trust domain alone
};

// clang-format off
#define SIGNET_SERVER_METHODS(METHOD)                                                                             \
  METHOD(kCountAgents,       "/spire.api.server.agent.v1.Agent/CountAgents",                   kLocal | kAdmin)   \
  METHOD(kListAgents,        "/spire.api.server.agent.v1.Agent/ListAgents",                    kLocal | kAdmin)   \
  METHOD(kGetAgent,          "/spire.api.server.agent.v1.Agent/GetAgent",                      kLocal | kAdmin)   \
  METHOD(kDeleteAgent,       "/spire.api.server.agent.v1.Agent/DeleteAgent",                   kLocal | kAdmin)   \
  METHOD(kBanAgent,          "/spire.api.server.agent.v1.Agent/BanAgent",                      kLocal | kAdmin)   \
  METHOD(kAttestAgent,       "/spire.api.server.agent.v1.Agent/AttestAgent",                   kAny)              \
  METHOD(kRenewAgent,        "/spire.api.server.agent.v1.Agent/RenewAgent",                    kAgent)            \
  METHOD(kCreateJoinToken,   "/spire.api.server.agent.v1.Agent/CreateJoinToken",               kLocal | kAdmin)   \
  METHOD(kPostStatus,        "/spire.api.server.agent.v1.Agent/PostStatus",                    kAgent)            \
  METHOD(kCountBundles,      "/spire.api.server.bundle.v1.Bundle/CountBundles",                kLocal | kAdmin)   \
  METHOD(kGetBundle,         "/spire.api.server.bundle.v1.Bundle/GetBundle",                   kAny)              \
  METHOD(kAppendBundle,      "/spire.api.server.bundle.v1.Bundle/AppendBundle",                kLocal | kAdmin)   \
  METHOD(kPublishJWTAuthority, "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",       kDownstream)       \
  METHOD(kPublishWITAuthority, "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority",       kDownstream)       \
  METHOD(kListFederatedBundles, "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles",     kLocal | kAdmin)   \
  METHOD(kGetFederatedBundle, "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle",         kLocal | kAdmin | kAgent) \
  METHOD(kBatchCreateFederatedBundle, "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", kLocal | kAdmin) \
  METHOD(kBatchUpdateFederatedBundle, "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", kLocal | kAdmin) \
  METHOD(kBatchSetFederatedBundle, "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", kLocal | kAdmin) \
  METHOD(kBatchDeleteFederatedBundle, "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", kLocal | kAdmin) \
  METHOD(kGetInfo,           "/spire.api.server.debug.v1.Debug/GetInfo",                       kLocal)            \
  METHOD(kCountEntries,      "/spire.api.server.entry.v1.Entry/CountEntries",                  kLocal | kAdmin)   \
  METHOD(kListEntries,       "/spire.api.server.entry.v1.Entry/ListEntries",                   kLocal | kAdmin)   \
  METHOD(kGetEntry,          "/spire.api.server.entry.v1.Entry/GetEntry",                      kLocal | kAdmin)   \
  METHOD(kBatchCreateEntry,  "/spire.api.server.entry.v1.Entry/BatchCreateEntry",              kLocal | kAdmin)   \
  METHOD(kBatchUpdateEntry,  "/spire.api.server.entry.v1.Entry/BatchUpdateEntry",              kLocal | kAdmin)   \
  METHOD(kBatchDeleteEntry,  "/spire.api.server.entry.v1.Entry/BatchDeleteEntry",              kLocal | kAdmin)   \
  METHOD(kGetAuthorizedEntries, "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries",       kAgent)            \
  METHOD(kSyncAuthorizedEntries, "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",     kAgent)            \
  METHOD(kGetJWTAuthorityState, "/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState", kLocal | kAdmin) \
  METHOD(kPrepareJWTAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority", kLocal | kAdmin) \
  METHOD(kActivateJWTAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority", kLocal | kAdmin) \
  METHOD(kTaintJWTAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority", kLocal | kAdmin) \
  METHOD(kRevokeJWTAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority", kLocal | kAdmin) \
  METHOD(kGetX509AuthorityState, "/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState", kLocal | kAdmin) \
  METHOD(kPrepareX509Authority, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority", kLocal | kAdmin) \
  METHOD(kActivateX509Authority, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority", kLocal | kAdmin) \
  METHOD(kTaintX509Authority, "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority", kLocal | kAdmin) \
  METHOD(kTaintX509UpstreamAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", kLocal | kAdmin) \
  METHOD(kRevokeX509Authority, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority", kLocal | kAdmin) \
  METHOD(kRevokeX509UpstreamAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", kLocal | kAdmin) \
  METHOD(kGetWITAuthorityState, "/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState", kLocal | kAdmin) \
  METHOD(kPrepareWITAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority", kLocal | kAdmin) \
  METHOD(kActivateWITAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority", kLocal | kAdmin) \
  METHOD(kTaintWITAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority", kLocal | kAdmin) \
  METHOD(kRevokeWITAuthority, "/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority", kLocal | kAdmin) \
  METHOD(kGetLogger,         "/spire.api.server.logger.v1.Logger/GetLogger",                   kLocal)            \
  METHOD(kSetLogLevel,       "/spire.api.server.logger.v1.Logger/SetLogLevel",                 kLocal)            \
  METHOD(kResetLogLevel,     "/spire.api.server.logger.v1.Logger/ResetLogLevel",               kLocal)            \
  METHOD(kMintX509SVID,      "/spire.api.server.svid.v1.SVID/MintX509SVID",                    kLocal | kAdmin)   \
  METHOD(kMintJWTSVID,       "/spire.api.server.svid.v1.SVID/MintJWTSVID",                     kLocal | kAdmin)   \
  METHOD(kMintWITSVID,       "/spire.api.server.svid.v1.SVID/MintWITSVID",                     kLocal | kAdmin)   \
  METHOD(kBatchNewX509SVID,  "/spire.api.server.svid.v1.SVID/BatchNewX509SVID",                kAgent)            \
  METHOD(kNewJWTSVID,        "/spire.api.server.svid.v1.SVID/NewJWTSVID",                      kAgent)            \
  METHOD(kBatchNewWITSVID,   "/spire.api.server.svid.v1.SVID/BatchNewWITSVID",                 kAgent)            \
  METHOD(kNewDownstreamX509CA, "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA",           kDownstream)       \
  METHOD(kListFederationRelationships, "/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships", kLocal | kAdmin) \
  METHOD(kGetFederationRelationship, "/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship", kLocal | kAdmin) \
  METHOD(kBatchCreateFederationRelationship, "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", kLocal | kAdmin) \
  METHOD(kBatchUpdateFederationRelationship, "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", kLocal | kAdmin) \
  METHOD(kBatchDeleteFederationRelationship, "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", kLocal | kAdmin) \
  METHOD(kRefreshBundle,     "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",     kLocal | kAdmin)   \
  METHOD(kSync,              "/signet.server.v1.AgentSync/Sync",                               kAgent)            \
  METHOD(kTokenCreateIdentity, "/signet.server.token.v1.Administration/CreateIdentity", kLocal | kOwnAdmin) \
  METHOD(kTokenUpdateIdentity, "/signet.server.token.v1.Administration/UpdateIdentity", kLocal | kOwnAdmin) \
  METHOD(kTokenGetIdentity, "/signet.server.token.v1.Administration/GetIdentity", kLocal | kOwnAdmin) \
  METHOD(kTokenListIdentities, "/signet.server.token.v1.Administration/ListIdentities", kLocal | kOwnAdmin) \
  METHOD(kTokenSetIdentityState, "/signet.server.token.v1.Administration/SetIdentityState", kLocal | kOwnAdmin) \
  METHOD(kTokenPutIssuer, "/signet.server.token.v1.Administration/PutIssuer", kLocal | kOwnAdmin) \
  METHOD(kTokenGetIssuer, "/signet.server.token.v1.Administration/GetIssuer", kLocal | kOwnAdmin) \
  METHOD(kTokenDeleteIssuer, "/signet.server.token.v1.Administration/DeleteIssuer", kLocal | kOwnAdmin) \
  METHOD(kTokenListIssuers, "/signet.server.token.v1.Administration/ListIssuers", kLocal | kOwnAdmin) \
  METHOD(kTokenPutResource, "/signet.server.token.v1.Administration/PutResource", kLocal | kOwnAdmin) \
  METHOD(kTokenGetResource, "/signet.server.token.v1.Administration/GetResource", kLocal | kOwnAdmin) \
  METHOD(kTokenDeleteResource, "/signet.server.token.v1.Administration/DeleteResource", kLocal | kOwnAdmin) \
  METHOD(kTokenListResources, "/signet.server.token.v1.Administration/ListResources", kLocal | kOwnAdmin) \
  METHOD(kTokenCreateGrant, "/signet.server.token.v1.Administration/CreateGrant", kLocal | kOwnAdmin) \
  METHOD(kTokenGetGrant, "/signet.server.token.v1.Administration/GetGrant", kLocal | kOwnAdmin) \
  METHOD(kTokenListGrants, "/signet.server.token.v1.Administration/ListGrants", kLocal | kOwnAdmin) \
  METHOD(kTokenCreateTask, "/signet.server.token.v1.Administration/CreateTask", kLocal | kOwnAdmin) \
  METHOD(kTokenGetTask, "/signet.server.token.v1.Administration/GetTask", kLocal | kOwnAdmin) \
  METHOD(kTokenCloseTask, "/signet.server.token.v1.Administration/CloseTask", kLocal | kOwnAdmin) \
  METHOD(kTokenListTasks, "/signet.server.token.v1.Administration/ListTasks", kLocal | kOwnAdmin) \
  METHOD(kTokenPutUserRights, "/signet.server.token.v1.Administration/PutUserRights", kLocal | kOwnAdmin) \
  METHOD(kTokenListUserRights, "/signet.server.token.v1.Administration/ListUserRights", kLocal | kOwnAdmin) \
  METHOD(kTokenRevoke, "/signet.server.token.v1.Administration/Revoke", kLocal | kOwnAdmin) \
  METHOD(kTokenReinstate, "/signet.server.token.v1.Administration/Reinstate", kLocal | kOwnAdmin) \
  METHOD(kTokenListRevocations, "/signet.server.token.v1.Administration/ListRevocations", kLocal | kOwnAdmin) \
  METHOD(kTokenListSigningKeys, "/signet.server.token.v1.Administration/ListSigningKeys", kLocal | kOwnAdmin) \
  METHOD(kTokenPrepareSigningKey, "/signet.server.token.v1.Administration/PrepareSigningKey", kLocal | kOwnAdmin) \
  METHOD(kTokenActivateSigningKey, "/signet.server.token.v1.Administration/ActivateSigningKey", kLocal | kOwnAdmin) \
  METHOD(kTokenRotateSigningKey, "/signet.server.token.v1.Administration/RotateSigningKey", kLocal | kOwnAdmin) \
  METHOD(kTokenGetChain, "/signet.server.token.v1.Administration/GetChain", kLocal | kOwnAdmin) \
  METHOD(kTokenListAudit, "/signet.server.token.v1.Administration/ListAudit", kLocal | kOwnAdmin) \
  METHOD(kTokenVerifyAudit, "/signet.server.token.v1.Administration/VerifyAudit", kLocal | kOwnAdmin) \
  METHOD(kTokenListAlerts, "/signet.server.token.v1.Administration/ListAlerts", kLocal | kOwnAdmin) \
  METHOD(kTokenExplain, "/signet.server.token.v1.Administration/Explain", kLocal | kOwnAdmin) \
  METHOD(kHealthCheck,       "/grpc.health.v1.Health/Check",                                   kLocal)            \
  METHOD(kHealthList,        "/grpc.health.v1.Health/List",                                    kLocal)            \
  METHOD(kHealthWatch,       "/grpc.health.v1.Health/Watch",                                   kLocal)            \
  METHOD(kReflection,        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",      kLocal | kAdmin | kAgent | kDownstream) \
  METHOD(kReflectionAlpha,   "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", kLocal | kAdmin | kAgent | kDownstream)
// clang-format on

enum class Method : uint8_t {
#define SIGNET_METHOD_NAME(name, path, grants) name,
  SIGNET_SERVER_METHODS(SIGNET_METHOD_NAME)
#undef SIGNET_METHOD_NAME
};

struct MethodRow {
  absl::string_view path;
  uint8_t grants;
};
inline constexpr MethodRow kMethodTable[] = {
#define SIGNET_METHOD_ROW(name, path, grants) {path, static_cast<uint8_t>(grants)},
    SIGNET_SERVER_METHODS(SIGNET_METHOD_ROW)
#undef SIGNET_METHOD_ROW
};
constexpr const MethodRow& RowOf(Method method) { return kMethodTable[static_cast<size_t>(method)]; }

}  // namespace signet::server
