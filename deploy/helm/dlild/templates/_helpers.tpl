{{- define "dlild.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "dlild.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "dlild.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dlild.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dlild.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dlild.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dlild.labels" -}}
{{ include "dlild.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The servers alone: the pod of `helm test` has the same name and instance, and must get no traffic. */}}
{{- define "dlild.serverLabels" -}}
{{ include "dlild.selectorLabels" . }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "dlild.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "dlild.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "dlild.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Names that the certificate must carry: those by which the cluster knows the service, and the user's. */}}
{{- define "dlild.host" -}}
{{ include "dlild.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* Waiting for proxies, for scans and for Triton, and 15 s to spare. */}}
{{- define "dlild.graceSeconds" -}}
{{- add .Values.drain.endpointSeconds .Values.drain.scanSeconds .Values.drain.exitSeconds 15 -}}
{{- end -}}

{{- define "dlild.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "dlild.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}
