{{/* Names, labels and images. */}}

{{- define "plimsoll.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that suffixes fit into the 63 characters of a name. */}}
{{- define "plimsoll.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "plimsoll.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What never changes for a component: (list $ "api"). */}}
{{- define "plimsoll.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "plimsoll.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "plimsoll.labels" -}}
{{- $root := index . 0 -}}
{{ include "plimsoll.selector" . }}
app.kubernetes.io/part-of: plimsoll
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The metadata of an object: (list $ component suffix labels annotations). The suffix may be "". */}}
{{- define "plimsoll.metadata" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 2 -}}
metadata:
  name: {{ include "plimsoll.fullname" $root }}{{ with $suffix }}-{{ . }}{{ end }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "plimsoll.labels" (list $root (index . 1)) | nindent 4 }}
    {{- with index . 3 }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) (index . 4) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* (list $ image): with the chart's registry, and the digest before the tag. */}}
{{- define "plimsoll.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if not $root.Values.image.registry -}}
{{- fail "image.registry is missing: the registry that holds your images of Plimsoll, such as registry.example.org/team" -}}
{{- end -}}
{{- $name := printf "%s/%s" ($root.Values.image.registry | trimSuffix "/") $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "plimsoll.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "plimsoll.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}
