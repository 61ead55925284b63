// Reads one object as JSON from standard input, and prints what kstatus calls it: the word on the first
// line, then its message. Flux, Helm 4 and kpt wait by that word.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("standard input is not one object: %w", err)
	}
	result, err := status.Compute(&object)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", result.Status, result.Message)
	return nil
}
