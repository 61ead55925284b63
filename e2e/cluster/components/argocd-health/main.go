// usage: argocd-health SCRIPT
// Reads one object as JSON from standard input, and prints the health that Argo CD gives it with this
// script: the word on the first line, then its message. As in Argo CD, an object that is being deleted is
// Progressing whatever the script says, and the script has the basic functions and `table` only, and a
// second to answer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "argocd-health:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: argocd-health SCRIPT <OBJECT")
	}
	var object map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&object); err != nil {
		return fmt.Errorf("standard input is not one object: %w", err)
	}
	metadata, _ := object["metadata"].(map[string]any)
	if metadata["deletionTimestamp"] != nil {
		fmt.Print("Progressing\nPending deletion\n")
		return nil
	}

	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	lua.OpenBase(state)
	lua.OpenTable(state)
	state.SetTop(0)
	deadline, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(deadline)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoFile(os.Args[1]); err != nil {
		return err
	}
	health, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return fmt.Errorf("the script returns a %s, not a table", state.Get(-1).Type())
	}
	switch word := health.RawGetString("status").String(); word {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown":
		fmt.Printf("%s\n%s\n", word, lua.LVAsString(health.RawGetString("message")))
		return nil
	default:
		return fmt.Errorf("the script calls the object %q, which is no health status", word)
	}
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
