{{- define "signet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of what has no namespace: two releases may share theirs but for the namespace. */}}
{{- define "signet.clusterwide" -}}
{{- $name := include "signet.fullname" . -}}
{{- if eq $name .Release.Namespace -}}{{ $name }}{{- else -}}{{ printf "%s-%s" .Release.Namespace $name }}{{- end -}}
{{- end -}}

{{- define "signet.serverAccount" -}}
{{- default (ternary (printf "%s-server" (include "signet.fullname" .)) "default" .Values.server.serviceAccount.create) .Values.server.serviceAccount.name -}}
{{- end -}}
{{- define "signet.agentAccount" -}}
{{- default (ternary (printf "%s-agent" (include "signet.fullname" .)) "default" .Values.agent.serviceAccount.create) .Values.agent.serviceAccount.name -}}
{{- end -}}

{{/* What Services, policies and monitors select by; never changes within a release. Argument: [root, component]. */}}
{{- define "signet.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "signet.labels" -}}
{{- $root := index . 0 -}}
{{ include "signet.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Argument: an image value; second: the tag when it names none. */}}
{{- define "signet.imageOf" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}
{{- define "signet.image" -}}
{{- include "signet.imageOf" (list .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{/* Port of an ADDRESS:PORT. */}}
{{- define "signet.portOf" -}}
{{- . | splitList ":" | last -}}
{{- end -}}

{{/* What server and agent may both reach. */}}
{{- define "signet.egressBasics" -}}
# Names are resolved.
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
# The API server.
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- end }}
{{- end -}}
