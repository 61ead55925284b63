// CoreDNS with the plugins that the cluster's Corefile names, and no others: most of the time that the
// whole program takes to build goes into the clouds and tracers of plugins that nothing here uses.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
)

// The order in which plugins get a request, as in CoreDNS itself.
func init() {
	dnsserver.Directives = []string{"bind", "errors", "template", "hosts", "kubernetes"}
}

func main() {
	coremain.Run()
}
