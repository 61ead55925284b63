# shellcheck shell=bash
# A certificate authority for this one cluster, made anew with it, and the
# kubeconfig files that are made of its certificates.

create_certificates() {
  if [[ -f $pki/complete ]]; then return; fi
  rm -rf "$pki"
  (umask 077 && mkdir -p "$pki" "$run")
  create_authority ca gill-hicks-cluster
  # The API server trusts whatever this one signs to name a user in a header.
  create_authority front-proxy-ca gill-hicks-front-proxy

  create_certificate kube-apiserver kube-apiserver "" \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$api_service_address,IP:$node_address,IP:127.0.0.1"
  create_certificate kubelet-serving "system:node:$node_name" system:nodes "DNS:$node_name,IP:$node_address"
  create_certificate metrics-server-serving metrics-server "" "DNS:metrics-server.kube-system.svc"
  create_certificate kubelet-client kube-apiserver-kubelet-client
  authority=front-proxy-ca create_certificate front-proxy-client front-proxy-client
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/service-account.key"
  openssl ec -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub" 2>/dev/null

  create_kubeconfig "$kubeconfig" admin system:masters
  create_kubeconfig "$pki/kubelet.kubeconfig" "system:node:$node_name" system:nodes
  create_kubeconfig "$pki/controller-manager.kubeconfig" system:kube-controller-manager
  create_kubeconfig "$pki/scheduler.kubeconfig" system:kube-scheduler
  create_kubeconfig "$pki/proxy.kubeconfig" system:kube-proxy
  create_kubeconfig "$pki/coredns.kubeconfig" coredns
  create_kubeconfig "$pki/metrics-server.kubeconfig" metrics-server
  touch "$pki/complete"
}

create_authority() { # name, common name
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 365 \
    -subj "/CN=$2" -keyout "$pki/$1.key" -out "$pki/$1.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}

# Signed by `authority`, the cluster's own unless set. With alternative names it
# is a server's certificate, and a client's in any case.
create_certificate() { # name, common name, organisation, alternative names
  local name=$1 subject=/CN=$2 signer=${authority:-ca} extensions
  if [[ -n ${3:-} ]]; then subject=/O=$3$subject; fi
  extensions=$'keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth,serverAuth'
  if [[ -n ${4:-} ]]; then extensions+=$'\n'"subjectAltName=$4"; fi
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc \
    -subj "$subject" -keyout "$pki/$name.key" 2>/dev/null |
    openssl x509 -req -days 365 -CA "$pki/$signer.crt" -CAkey "$pki/$signer.key" \
      -extfile <(printf '%s\n' "$extensions") -out "$pki/$name.crt" 2>/dev/null
}

# Everything is inside the file, so that it works when it is copied.
create_kubeconfig() { # file, user, organisation
  local name=user-${2//:/-}
  create_certificate "$name" "$2" "${3:-}"
  (
    umask 077
    cat >"$1" <<EOF
apiVersion: v1
kind: Config
current-context: gill-hicks
contexts: [{name: gill-hicks, context: {cluster: gill-hicks, user: $name}}]
clusters:
  - name: gill-hicks
    cluster:
      server: $api_url
      certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
  - name: $name
    user:
      client-certificate-data: $(base64 -w0 "$pki/$name.crt")
      client-key-data: $(base64 -w0 "$pki/$name.key")
EOF
  )
  rm "$pki/$name.key" "$pki/$name.crt"
}
