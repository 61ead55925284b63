# shellcheck shell=bash
# etcd, the API server, the controller manager and the scheduler.

kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" "$@"; }

etcd_answers() { in_node_network curl --silent --fail --max-time 2 http://127.0.0.1:2379/health; }

api_server_answers() { kubectl get --raw /readyz --request-timeout 2s; }

# Loopback of the node's namespace, so without TLS. The data lives as long as the cluster.
start_etcd() {
  start_node_process etcd "$bin/etcd" \
    --data-dir="$data/etcd" \
    --unsafe-no-fsync \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=default=http://127.0.0.1:2380 \
    --log-level=warn
}

start_api_server() {
  render "$here/config/audit-policy.yaml" >"$run/audit-policy.yaml"
  start_node_process kube-apiserver "$bin/kube-apiserver" \
    --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=0.0.0.0 --advertise-address="$node_address" --secure-port=6443 \
    --tls-cert-file="$pki/kube-apiserver.crt" --tls-private-key-file="$pki/kube-apiserver.key" \
    --client-ca-file="$pki/ca.crt" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/service-account.pub" \
    --service-account-signing-key-file="$pki/service-account.key" \
    --service-cluster-ip-range="$service_network" \
    --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
    --enable-aggregator-routing \
    --audit-policy-file="$run/audit-policy.yaml" --audit-log-path="$logs/audit.log" \
    --audit-log-maxsize=200 --audit-log-maxbackup=2 \
    --profiling=false
}

# The autoscaler's periods are shortened from minutes so that tests see it act.
# Raised client limits: with the defaults a load test would measure those.
start_controller_manager() {
  start_node_process kube-controller-manager "$bin/kube-controller-manager" \
    --kubeconfig="$pki/controller-manager.kubeconfig" \
    --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
    --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/service-account.key" \
    --allocate-node-cidrs --cluster-cidr="$pod_network" \
    --horizontal-pod-autoscaler-sync-period=5s \
    --horizontal-pod-autoscaler-initial-readiness-delay=10s \
    --horizontal-pod-autoscaler-cpu-initialization-period=20s \
    --kube-api-qps=200 --kube-api-burst=400
}

start_scheduler() {
  start_node_process kube-scheduler "$bin/kube-scheduler" \
    --kubeconfig="$pki/scheduler.kubeconfig" \
    --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
    --authorization-kubeconfig="$pki/scheduler.kubeconfig" \
    --bind-address=127.0.0.1 --leader-elect=false \
    --kube-api-qps=200 --kube-api-burst=400
}
