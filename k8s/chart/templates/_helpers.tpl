{{- define "millrace.fullname" -}}
{{- if contains "millrace" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-millrace" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "millrace.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "millrace.secretName" -}}
{{- .Values.existingSecret | default (include "millrace.fullname" .) }}
{{- end }}

{{/* What a pod is found by; never changes for a release. Takes (dict "root" $ "name" "gateway"). */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: millrace
{{- end }}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "millrace.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "millrace.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "millrace.envFrom" -}}
- configMapRef:
    name: {{ include "millrace.fullname" . }}
{{- if or .Values.existingSecret .Values.secret }}
- secretRef:
    name: {{ include "millrace.secretName" . }}
{{- end }}
{{- end }}

{{/* Files for Kafka: the settings that name them, where they are mounted, and what they come from. */}}
{{- define "millrace.kafkaEnv" -}}
{{- if .Values.kafka.caSecretName }}
- name: KAFKA_SSL_CA
  value: /etc/millrace/kafka-ca/ca.crt
{{- end }}
{{- if .Values.kafka.clientSecretName }}
- name: KAFKA_SSL_CERT
  value: /etc/millrace/kafka-client/tls.crt
- name: KAFKA_SSL_KEY
  value: /etc/millrace/kafka-client/tls.key
{{- end }}
{{- if .Values.kafka.tokenAudience }}
- name: KAFKA_OAUTH_TOKEN_FILE
  value: /etc/millrace/kafka-token/token
{{- end }}
{{- end }}

{{- define "millrace.kafkaMounts" -}}
{{- range $name := list "ca" "client" "token" }}
{{- if get $.Values.kafka (get (dict "ca" "caSecretName" "client" "clientSecretName" "token" "tokenAudience") $name) }}
- name: kafka-{{ $name }}
  mountPath: /etc/millrace/kafka-{{ $name }}
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "millrace.kafkaVolumes" -}}
{{- with .Values.kafka.caSecretName }}
- name: kafka-ca
  secret: { secretName: {{ . }} }
{{- end }}
{{- with .Values.kafka.clientSecretName }}
- name: kafka-client
  secret: { secretName: {{ . }} }
{{- end }}
{{- with .Values.kafka.tokenAudience }}
- name: kafka-token
  projected:
    sources:
      - serviceAccountToken: { path: token, audience: {{ . | quote }}, expirationSeconds: 3600 }
{{- end }}
{{- end }}

{{/* Ports of a service as YAML: name to number; "health" names the one with /healthz. */}}
{{- define "millrace.ports" -}}
{{- $ports := dict
  "gateway" (dict "ports" (dict "http" 8080) "health" "http")
  "consumer" (dict "ports" (dict "health" 8083) "health" "health")
  "relay" (dict "ports" (dict "relay" 3001 "http" 8082) "health" "http")
  "stats" (dict "ports" (dict "http" 8081) "health" "http") -}}
{{- get $ports . | toYaml }}
{{- end }}

{{/* How a service's port with /healthz is spoken to. Relay and consumer have theirs without TLS. Takes (dict "root" $ "name" "gateway"). */}}
{{- define "millrace.scheme" -}}
{{- $own := get .root.Values .name -}}
{{- $cert := or .root.Values.tls.secretName (get .root.Values.config "TLS_CERT") (get ($own.config | default dict) "TLS_CERT") -}}
{{- if and $cert (has .name (list "gateway" "stats")) }}HTTPS{{ else }}HTTP{{ end }}
{{- end }}

{{- define "millrace.scheduling" -}}
{{- with .Values.kafka.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
