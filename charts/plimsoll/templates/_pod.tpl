{{/* What every Pod has in common. Not to be weakened by values: who needs more, changes the chart. */}}

{{/* (list $ component's values serviceAccountName groups) */}}
{{- define "plimsoll.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
serviceAccountName: {{ index . 2 }}
automountServiceAccountToken: false
# Otherwise a Service named `plimsoll` would put names such as PLIMSOLL_PORT into the environment,
# and an unknown setting ends the start.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with index $root.Values.podSecurityContext $key }}
  {{ $key }}: {{ int . }}
  {{- end }}
  {{- end }}
  {{- with index . 3 }}
  supplementalGroups:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with $values.terminationGracePeriodSeconds }}
terminationGracePeriodSeconds: {{ . }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "plimsoll.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The metadata of a Pod template: (list $ component values annotations). */}}
{{- define "plimsoll.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
metadata:
  labels:
    {{- include "plimsoll.labels" (list $root (index . 1)) | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with merge (dict) $values.podAnnotations (index . 3) $root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Over hosts and zones where that is possible: (list $ component values). */}}
{{- define "plimsoll.spread" -}}
{{- $selector := dict "matchLabels" (include "plimsoll.selector" (list (index . 0) (index . 1)) | fromYaml) -}}
{{- $constraints := (index . 2).topologySpreadConstraints -}}
{{- if kindIs "invalid" $constraints -}}
{{- $constraints = list -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- end -}}
{{- with $constraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (dict) . (dict "labelSelector" $selector) | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* (list $ component values) */}}
{{- define "plimsoll.disruptionBudget" -}}
{{- $budget := (index . 2).podDisruptionBudget -}}
{{- if and (kindIs "invalid" $budget.minAvailable) (kindIs "invalid" $budget.maxUnavailable) -}}
{{- fail (printf "%s.podDisruptionBudget has neither minAvailable nor maxUnavailable" (index . 1)) -}}
{{- end -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "plimsoll.metadata" (list (index . 0) (index . 1) (index . 1) dict dict) }}
spec:
  {{- if not (kindIs "invalid" $budget.minAvailable) }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- end }}
  # One that does not serve keeps nobody from draining its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "plimsoll.selector" (list (index . 0) (index . 1)) | nindent 6 }}
{{- end -}}
