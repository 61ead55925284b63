module gill-hicks.dev/e2e/cluster/probe

go 1.26
