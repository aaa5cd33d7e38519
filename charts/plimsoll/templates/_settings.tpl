{{/* Settings: where each comes from. Secrets are referred to, never written into a Pod. */}}

{{/* (list $ "database"): "true" where this release keeps the address in a Secret of its own. */}}
{{- define "plimsoll.ownsUrl" -}}
{{- $name := index . 1 -}}
{{- $values := index (index . 0).Values $name -}}
{{- if and $values.url $values.existingSecret -}}
{{- fail (printf "%s.url and %s.existingSecret are both set: one of them" $name $name) -}}
{{- else if not (or $values.url $values.existingSecret) -}}
{{- fail (printf "%s.url or %s.existingSecret is missing: Plimsoll's %s lives outside this chart" $name $name (ternary "PostgreSQL" "Redis" (eq $name "database"))) -}}
{{- end -}}
{{- if $values.url }}true{{ end -}}
{{- end -}}

{{/* (list $ "database"): the `secretKeyRef` of its address. */}}
{{- define "plimsoll.urlRef" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $values := index $root.Values $name -}}
{{- if include "plimsoll.ownsUrl" . -}}
name: {{ include "plimsoll.fullname" $root }}
key: {{ $name }}-url
{{- else -}}
name: {{ $values.existingSecret }}
key: {{ $values.existingSecretKey }}
{{- end -}}
{{- end -}}

{{/* What API and workers share and may be read by everybody: a ConfigMap's data. */}}
{{- define "plimsoll.settings" -}}
{{- $typed := dict
  "PLIMSOLL_LOG_LEVEL" .Values.log.level
  "PLIMSOLL_LOG_FORMAT" .Values.log.format
  "PLIMSOLL_DATABASE_MAX_CONNECTIONS" (toString .Values.database.maxConnections) -}}
{{- with .Values.publicUrl }}{{ $_ := set $typed "PLIMSOLL_PUBLIC_URL" . }}{{ end -}}
{{- with .Values.telemetry.otlpEndpoint }}{{ $_ := set $typed "PLIMSOLL_TELEMETRY_OTLP_ENDPOINT" . }}{{ end -}}
{{- merge (dict) .Values.settings $typed | toYaml -}}
{{- end -}}

{{/* Changes when what a Pod read at its start has changed. */}}
{{- define "plimsoll.checksum" -}}
{{- $urls := "" -}}
{{- if or .Values.database.url .Values.redis.url -}}
{{- /* Slow on purpose: more people read annotations than Secrets, and nobody should try passwords on them. */ -}}
{{- $urls = derivePassword 1 "long" (printf "%s %s" .Values.database.url .Values.redis.url) "checksum" .Release.Name -}}
{{- end -}}
{{- printf "%s%s" (include "plimsoll.settings" .) $urls | sha256sum -}}
{{- end -}}

{{- define "plimsoll.connections" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "plimsoll.urlRef" (list . "database") | nindent 6 }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      {{- include "plimsoll.urlRef" (list . "redis") | nindent 6 }}
{{- end -}}

{{/* (list $ component's values) */}}
{{- define "plimsoll.envFrom" -}}
{{- $root := index . 0 -}}
- configMapRef:
    name: {{ include "plimsoll.fullname" $root }}
{{- with $root.Values.existingSettingsSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- with (index . 1).extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Users and identity providers, for the API. */}}
{{- define "plimsoll.authentication" -}}
{{- range $name, $user := .Values.auth.basic }}
{{- $prefix := printf "PLIMSOLL_AUTH_BASIC_%s" (upper $name) }}
- name: {{ $prefix }}_USER
  value: {{ default $name $user.user | quote }}
- name: {{ $prefix }}_ROLE
  value: {{ default "owner" $user.role }}
- name: {{ $prefix }}_HASH
  valueFrom:
    secretKeyRef:
      name: {{ $user.existingSecret }}
      key: {{ default "hash" $user.existingSecretKey }}
{{- end }}
{{- range $name, $provider := .Values.auth.oidc }}
{{- $prefix := printf "PLIMSOLL_AUTH_OIDC_%s" (upper $name) }}
{{- if not $.Values.publicUrl }}
{{- fail "publicUrl is missing: identity providers send people back to it" }}
{{- end }}
- name: {{ $prefix }}_DISCOVERY
  value: {{ $provider.discovery | quote }}
- name: {{ $prefix }}_CLIENTID
  value: {{ $provider.clientId | quote }}
{{- with $provider.existingSecret }}
- name: {{ $prefix }}_CLIENTSECRET
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ default "clientsecret" $provider.existingSecretKey }}
{{- end }}
{{- range $key, $setting := dict "role" "ROLE" "roleClaim" "ROLECLAIM" "roles" "ROLES" "scopes" "SCOPES" "logoutUrl" "LOGOUTURL" }}
{{- with index $provider $key }}
- name: {{ $prefix }}_{{ $setting }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Proxies whose headers are believed. */}}
{{- define "plimsoll.trustedProxies" -}}
{{- if kindIs "invalid" .Values.api.trustedProxies -}}
{{- ternary "1" "false" (or .Values.ingress.enabled .Values.httpRoute.enabled) -}}
{{- else -}}
{{- ternary "false" (toString .Values.api.trustedProxies) (eq (int .Values.api.trustedProxies) 0) -}}
{{- end -}}
{{- end -}}
