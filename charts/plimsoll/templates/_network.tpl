{{/* Rules of NetworkPolicies. */}}

{{/* The ports of an address, or those of the policy where it names none: (list url ports). */}}
{{- define "plimsoll.urlPorts" -}}
{{- $host := regexReplaceAll "^[a-z+]+://([^@/]*@)?([^/?#]*).*$" (index . 0 | default "") "${2}" -}}
{{- $named := list -}}
{{- range regexFindAll ":[0-9]+(,|$)" $host -1 -}}
{{- $named = append $named (regexFind "[0-9]+" . | int) -}}
{{- end -}}
{{- toJson (default (index . 1) $named | uniq) -}}
{{- end -}}

{{/* One egress rule by TCP: (list peers ports-as-JSON). */}}
{{- define "plimsoll.egress" -}}
- ports:
    {{- range index . 1 | fromJsonArray }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with index . 0 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "plimsoll.dnsEgress" -}}
- ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - protocol: UDP
      port: {{ . }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .Values.networkPolicy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* (list $ url), the address of Postgres. */}}
{{- define "plimsoll.postgresEgress" -}}
{{- $policy := (index . 0).Values.networkPolicy.postgres -}}
{{- include "plimsoll.egress" (list $policy.to (include "plimsoll.urlPorts" (list (index . 1) $policy.ports))) -}}
{{- end -}}

{{/* What API and workers need: DNS, Postgres, Redis, and where traces go. */}}
{{- define "plimsoll.commonEgress" -}}
{{- $redis := .Values.networkPolicy.redis -}}
{{- include "plimsoll.dnsEgress" . }}
{{ include "plimsoll.postgresEgress" (list . .Values.database.url) }}
{{ include "plimsoll.egress" (list $redis.to (include "plimsoll.urlPorts" (list .Values.redis.url $redis.ports))) }}
{{- with .Values.telemetry.otlpEndpoint }}
{{ include "plimsoll.egress" (list list (include "plimsoll.urlPorts" (list . (list (ternary 443 80 (hasPrefix "https:" .)))))) }}
{{- end }}
{{- end -}}

{{/* The world by HTTPS, but for where clouds hand out credentials. */}}
{{- define "plimsoll.httpsEgress" -}}
{{- $https := .Values.networkPolicy.https -}}
{{- if and $https.ports $https.cidrs -}}
- ports:
    {{- range $https.ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  to:
    {{- range $cidr := $https.cidrs }}
    - ipBlock:
        cidr: {{ $cidr | quote }}
        {{- $inside := list }}
        {{- range $https.except }}
        {{- if eq (contains ":" .) (contains ":" $cidr) }}{{ $inside = append $inside . }}{{ end }}
        {{- end }}
        {{- with $inside }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* The head of a policy for one component: (list $ component annotations). */}}
{{- define "plimsoll.policyHead" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{{ include "plimsoll.metadata" (list (index . 0) (index . 1) (index . 1) dict (index . 2)) }}
spec:
  podSelector:
    matchLabels:
      {{- include "plimsoll.selector" (list (index . 0) (index . 1)) | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{/* (list $ url annotations) */}}
{{- define "plimsoll.migratePolicy" -}}
{{- $root := index . 0 -}}
{{ include "plimsoll.policyHead" (list $root "migrate" (index . 2)) }}
  egress:
    {{- include "plimsoll.dnsEgress" $root | nindent 4 }}
    {{- include "plimsoll.postgresEgress" (list $root (index . 1)) | nindent 4 }}
{{- end -}}
