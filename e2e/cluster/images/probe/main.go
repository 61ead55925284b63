// Probe asks the network one question and answers with its exit code, on the
// host and, since it is static, in a pod.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const usage = `usage: probe resolve NAME [SERVER]      can the name be resolved (by this DNS server)?
       probe reach ADDRESS:PORT…         does every one accept TCP connections?
       probe unreachable ADDRESS:PORT…   does none of them even refuse?`

// A refused connection answers at once, a dropped one never does.
const patience = 2 * time.Second

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(64)
	}
	var err error
	switch arguments := os.Args[2:]; os.Args[1] {
	case "resolve":
		err = resolve(arguments)
	case "reach":
		for address, failure := range dialAll(arguments) {
			if failure != nil {
				err = fmt.Errorf("failed to reach %s: %w", address, failure)
			}
		}
	case "unreachable":
		for address, failure := range dialAll(arguments) {
			// Whoever refuses has been reached.
			if failure == nil || errors.Is(failure, syscall.ECONNREFUSED) {
				err = fmt.Errorf("%s can be reached and must not be", address)
			}
		}
	default:
		err = fmt.Errorf("%s", usage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func resolve(arguments []string) error {
	resolver := &net.Resolver{PreferGo: true}
	if len(arguments) > 1 {
		server := net.JoinHostPort(arguments[1], "53")
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, arguments[0])
	if err == nil {
		fmt.Println(addresses)
	}
	return err
}

// Dials all addresses at once and returns what became of each.
func dialAll(addresses []string) map[string]error {
	type outcome struct {
		address string
		err     error
	}
	outcomes := make(chan outcome)
	for _, address := range addresses {
		go func() {
			connection, err := net.DialTimeout("tcp", address, patience)
			if err == nil {
				connection.Close()
			}
			outcomes <- outcome{address, err}
		}()
	}
	results := map[string]error{}
	for range addresses {
		result := <-outcomes
		results[result.address] = result.err
	}
	return results
}
