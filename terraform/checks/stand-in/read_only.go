package main

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// refuseReadOnly finds attributes that only the provider may set. terraform leaves this one check to
// providers; everything else that a schema says, it checks itself.
func refuseReadOnly(schema *tfprotov6.Schema, config *tfprotov6.DynamicValue) ([]*tfprotov6.Diagnostic, error) {
	value, err := config.Unmarshal(schema.ValueType())
	if err != nil {
		return nil, err
	}
	var found []*tfprotov6.Diagnostic
	err = tftypes.Walk(value, func(path *tftypes.AttributePath, value tftypes.Value) (bool, error) {
		if value.IsNull() || !isReadOnly(schema.Block, path) {
			return true, nil
		}
		found = append(found, &tfprotov6.Diagnostic{
			Severity:  tfprotov6.DiagnosticSeverityError,
			Summary:   "Read-only attribute",
			Detail:    fmt.Sprintf("%s is set by the provider and cannot be set here.", path.LastStep()),
			Attribute: path,
		})
		return false, nil
	})
	return found, err
}

// isReadOnly follows the path's names through the blocks. Inside of attributes nothing is read-only that
// the attribute is not.
func isReadOnly(block *tfprotov6.SchemaBlock, path *tftypes.AttributePath) bool {
	names := attributeNames(path)
	for position, name := range names {
		nested := blockNamed(block, name)
		if nested != nil {
			block = nested
			continue
		}
		attribute := attributeNamed(block, name)
		last := position == len(names)-1
		return last && attribute != nil && attribute.Computed && !attribute.Optional && !attribute.Required
	}
	return false
}

func attributeNames(path *tftypes.AttributePath) []string {
	var names []string
	for _, step := range path.Steps() {
		if name, ok := step.(tftypes.AttributeName); ok {
			names = append(names, string(name))
		}
	}
	return names
}

func blockNamed(block *tfprotov6.SchemaBlock, name string) *tfprotov6.SchemaBlock {
	for _, nested := range block.BlockTypes {
		if nested.TypeName == name {
			return nested.Block
		}
	}
	return nil
}

func attributeNamed(block *tfprotov6.SchemaBlock, name string) *tfprotov6.SchemaAttribute {
	for _, attribute := range block.Attributes {
		if attribute.Name == name {
			return attribute
		}
	}
	return nil
}
