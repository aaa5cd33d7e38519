{{/* A worker's container: (list $ values env mounts), the last two as YAML of lists. It listens on no
     port: probes run the worker's own command, which asks the database whether this worker was heard
     of. That fails while Postgres is away, too, which a new start would not mend, so that liveness
     has a lot of patience; one that hangs has lost its leases to another within 15 seconds. */}}
{{- define "plimsoll.workerContainer" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
- name: worker
  image: {{ include "plimsoll.image" (list $root $root.Values.worker.image) }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  args: [run]
  {{- include "plimsoll.containerSecurity" $root | nindent 2 }}
  env:
    - name: PLIMSOLL_WORKER_CONCURRENCY
      value: {{ $values.concurrency | quote }}
    {{- include "plimsoll.connections" $root | nindent 4 }}
    {{- index . 2 | trim | nindent 4 }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  envFrom:
    {{- include "plimsoll.envFrom" (list $root $values) | nindent 4 }}
  {{- range $probe := list "readinessProbe" "livenessProbe" }}
  {{ $probe }}:
    exec:
      command: [/usr/bin/plimsoll-worker, healthcheck]
    {{- toYaml (index $values $probe) | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    - name: tmp
      mountPath: /tmp
    {{- with index . 3 | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* (list values volumes), the last as YAML of a list. */}}
{{- define "plimsoll.workerVolumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ (index . 0).tmpSizeLimit }}
{{- with index . 1 | trim }}
{{ . }}
{{- end }}
{{- with (index . 0).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where each engine is, and the files with which it is reached. */}}
{{- define "plimsoll.engineEnv" -}}
{{- range $name, $engine := .Values.worker.engines }}
{{- $prefix := printf "PLIMSOLL_WATCHER_%s" (upper $name) }}
{{- $tls := default dict $engine.tls }}
{{- $encrypted := ne (toString $tls.enabled) "false" }}
{{- $files := printf "/etc/plimsoll/engines/%s" $name }}
- name: {{ $prefix }}_HOST
  value: {{ $engine.host | quote }}
- name: {{ $prefix }}_PORT
  value: {{ include "plimsoll.enginePort" $engine | quote }}
- name: {{ $prefix }}_PROTOCOL
  value: {{ ternary "https" "http" $encrypted }}
{{- if $encrypted }}
{{- if not $tls.existingSecret }}
{{- fail (printf "worker.engines.%s.tls.existingSecret is missing: whoever reaches an engine without TLS owns its host" $name) }}
{{- end }}
- name: {{ $prefix }}_CAFILE
  value: {{ $files }}/{{ default "ca.pem" $tls.caKey }}
- name: {{ $prefix }}_CERTFILE
  value: {{ $files }}/{{ default "cert.pem" $tls.certKey }}
- name: {{ $prefix }}_KEYFILE
  value: {{ $files }}/{{ default "key.pem" $tls.keyKey }}
{{- end }}
{{- range $setting, $value := $engine.settings }}
- name: {{ $prefix }}_{{ $setting }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "plimsoll.enginePort" -}}
{{- if .port }}{{ .port }}{{ else }}{{ ternary "2375" "2376" (eq (toString (default dict .tls).enabled) "false") }}{{ end -}}
{{- end -}}
