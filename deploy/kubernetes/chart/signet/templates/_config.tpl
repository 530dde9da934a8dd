{{/* The second map over the first, as text. Where a key takes one of several kinds, the second's kind replaces the first's. */}}
{{- define "signet.merged" -}}
{{- $config := index . 0 -}}
{{- $extra := deepCopy (index . 1) -}}
{{- range list "datastore" "key_manager" "bootstrap" "node_attestor" -}}
{{- if hasKey $extra . }}{{- $_ := unset $config . }}{{- end }}
{{- end -}}
{{- toYaml (mergeOverwrite $config $extra) -}}
{{- end -}}

{{/* server.yaml, as text. */}}
{{- define "signet.serverConfig" -}}
{{- $v := .Values.server -}}
{{- $config := dict
  "trust_domain" .Values.trustDomain
  "data_dir" "/var/lib/signet/server"
  "listen" $v.listen
  "admin_socket" "/run/signet/server/admin.sock"
  "http" (dict "listen" $v.httpListen)
  "log" (dict "level" $v.logLevel "format" $v.logFormat)
  "ca" (dict "ttl" $v.caTTL "key_type" $v.caKeyType)
  "svid" (dict "x509_ttl" $v.defaultX509SvidTTL "jwt_ttl" $v.defaultJwtSvidTTL "agent_ttl" $v.agentTTL)
  "datastore" (dict "sqlite" (dict "path" "server.db"))
  "key_manager" (dict "disk" (dict "path" "keys"))
-}}
{{- with $v.jwtIssuer }}{{- $_ := set $config "jwt_issuer" . }}{{- end }}
{{- with $v.adminIDs }}{{- $_ := set $config "admin_ids" . }}{{- end }}
{{- with $v.pruneAttestedNodesExpiredFor }}{{- $_ := set $config "prune_attested_nodes_expired_for" . }}{{- end }}
{{- $attestors := dict -}}
{{- if $v.nodeAttestor.k8sPSAT.enabled -}}
{{- $psat := $v.nodeAttestor.k8sPSAT -}}
{{- $allowed := default (list (printf "%s:%s" .Release.Namespace (include "signet.agentAccount" .))) $psat.serviceAccountAllowList -}}
{{- $cluster := dict "service_account_allow_list" $allowed "audience" $psat.audience -}}
{{- with $psat.allowedNodeLabelKeys }}{{- $_ := set $cluster "allowed_node_label_keys" . }}{{- end }}
{{- with $psat.allowedPodLabelKeys }}{{- $_ := set $cluster "allowed_pod_label_keys" . }}{{- end }}
{{- $_ := set $attestors "k8s_psat" (dict "clusters" (dict .Values.clusterName $cluster)) -}}
{{- end -}}
{{- if $v.nodeAttestor.joinToken.enabled }}{{- $_ := set $attestors "join_token" dict }}{{- end }}
{{- $_ := set $config "node_attestors" $attestors -}}
{{- $_ := set $config "bundle_publishers" (dict "k8s_configmap" (dict "clusters" (dict .Values.clusterName (dict
  "namespace" .Release.Namespace "config_map" .Values.bundleConfigMap "config_map_key" .Values.bundleConfigMapKey)))) -}}
{{- if $v.tokenService.enabled -}}
{{- $token := dict "listen" "0.0.0.0:8444" "issuer" (required "server.tokenService.issuer is needed: the https URL of the token service" $v.tokenService.issuer) -}}
{{- if $v.tokenService.tlsSecret -}}
{{- $_ := set $token "certificate" (dict "certificate_path" "/run/signet/token-tls/tls.crt" "private_key_path" "/run/signet/token-tls/tls.key") -}}
{{- end -}}
{{- $_ := set $config "token_service" $token -}}
{{- end -}}
{{- include "signet.merged" (list $config $v.extraConfig) -}}
{{- end -}}

{{/* agent.yaml, as text. */}}
{{- define "signet.agentConfig" -}}
{{- $v := .Values.agent -}}
{{- $service := printf "%s-server.%s.svc:%v" (include "signet.fullname" .) .Release.Namespace .Values.server.service.port -}}
{{- $attestors := dict -}}
{{- if $v.workloadAttestors.k8s.enabled -}}
{{- $k8s := dict "node_name_env" "MY_NODE_NAME" -}}
{{- if eq $v.workloadAttestors.k8s.source "kubelet" }}{{- $_ := set $k8s "kubelet" dict }}{{- end }}
{{- if $v.workloadAttestors.k8s.disableContainerSelectors }}{{- $_ := set $k8s "disable_container_selectors" true }}{{- end }}
{{- if $v.workloadAttestors.k8s.namespaceLabels }}{{- $_ := set $k8s "namespace_labels" true }}{{- end }}
{{- $_ := set $attestors "k8s" $k8s -}}
{{- end -}}
{{- if $v.workloadAttestors.unix.discoverPath }}{{- $_ := set $attestors "unix" (dict "discover_path" true) }}{{- end }}
{{- $config := dict
  "trust_domain" .Values.trustDomain
  "data_dir" "/var/lib/signet/agent"
  "server_address" (default (list $service) $v.server.addresses)
  "workload_socket" "/run/signet/workload/api.sock"
  "admin_socket" "/run/signet/agent/admin.sock"
  "http" (dict "listen" $v.httpListen)
  "log" (dict "level" $v.logLevel "format" $v.logFormat)
  "bootstrap" (dict "trust_bundle_path" (printf "/run/signet/bundle/%s" .Values.bundleConfigMapKey))
  "node_attestor" (dict "k8s_psat" (dict "cluster" .Values.clusterName "token_path" "/var/run/secrets/tokens/signet-agent"))
  "workload_attestors" $attestors
-}}
{{- if $v.tokenService.enabled }}{{- $_ := set $config "token_service" (dict "socket" "/run/signet/workload/token.sock") }}{{- end }}
{{- include "signet.merged" (list $config $v.extraConfig) -}}
{{- end -}}

{{/* Configuration of spire-controller-manager, as text. */}}
{{- define "signet.controllerManagerConfig" -}}
{{- $v := .Values.controllerManager -}}
{{- $config := dict
  "apiVersion" "spire.spiffe.io/v1alpha1"
  "kind" "ControllerManagerConfig"
  "trustDomain" .Values.trustDomain
  "clusterName" .Values.clusterName
  "clusterDomain" $v.clusterDomain
  "spireServerSocketPath" "/run/signet/server/admin.sock"
  "className" $v.className
  "watchClassless" $v.watchClassless
  "ignoreNamespaces" $v.ignoreNamespaces
  "entryIDPrefix" $v.entryIDPrefix
  "metrics" (dict "bindAddress" ":8083")
  "health" (dict "healthProbeBindAddress" ":8084")
  "leaderElection" (dict "leaderElect" false)
-}}
{{- toYaml (mergeOverwrite $config (deepCopy $v.extraConfig)) -}}
{{- end -}}
