module gill-hicks.dev/e2e/cluster/argocd-health

go 1.26.0

require github.com/yuin/gopher-lua v1.1.2
