# shellcheck shell=bash
# What runs beside the control plane: DNS, metrics and volumes.

apply() { kubectl apply --server-side --force-conflicts --filename - >/dev/null; }

dns_answers() { "$bin/probe" resolve kubernetes.default.svc.cluster.local "$node_address"; }

metrics_answer() { kubectl get --raw "/apis/metrics.k8s.io/v1beta1/nodes/$node_name" --request-timeout 2s; }

grant_access() { render "$here/manifests/access.yaml" | apply; }

start_coredns() {
  render "$here/config/Corefile" >"$run/Corefile"
  start_node_process coredns "$bin/coredns" -conf "$run/Corefile"
}

start_metrics_server() {
  local authority
  authority=$(base64 -w0 "$pki/ca.crt")
  render "$here/manifests/metrics-server.yaml" authority | apply
  # A resolution below 15 s is refused: it must exceed the kubelet's timeout. Fake nodes have no
  # kubelet to ask.
  start_node_process metrics-server "$bin/metrics-server" \
    --kubeconfig="$pki/metrics-server.kubeconfig" \
    --authentication-kubeconfig="$pki/metrics-server.kubeconfig" \
    --authorization-kubeconfig="$pki/metrics-server.kubeconfig" \
    --secure-port=4443 \
    --tls-cert-file="$pki/metrics-server-serving.crt" --tls-private-key-file="$pki/metrics-server-serving.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --node-selector='type!=kwok' \
    --metric-resolution=15s
}

volume_count=50

# Creates the volumes, and makes those whose claim is gone usable again: the
# class has no provisioner that would.
provide_volumes() {
  local existing='' released volume number
  if kubectl get storageclass local &>/dev/null; then
    existing=$(kubectl get persistentvolumes --selector gill-hicks.dev/local-volume=true --output name)
    released=$(kubectl get persistentvolumes --selector gill-hicks.dev/local-volume=true \
      --output jsonpath='{range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end}')
    for volume in $released; do
      kubectl delete persistentvolume "$volume" >/dev/null
      rm -rf "${volumes:?}/$volume"
      existing=${existing/"persistentvolume/$volume"/}
    done
  fi
  {
    render "$here/manifests/storage-class.yaml"
    for ((number = 1; number <= volume_count; number++)); do
      printf -v volume 'local-%02d' "$number"
      if [[ $existing == *"/$volume"* ]]; then continue; fi
      mkdir -p "$volumes/$volume"
      printf -- '---\n'
      render "$here/manifests/volume.yaml" volume
    done
  } | apply
}
