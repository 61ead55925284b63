package main

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// providerSchema is the file that ../schema.mjs writes.
type providerSchema struct {
	Provider    block            `json:"provider"`
	Resources   map[string]block `json:"resources"`
	DataSources map[string]block `json:"data_sources"`
}

type block struct {
	Attributes map[string]attribute   `json:"attributes"`
	Blocks     map[string]nestedBlock `json:"blocks"`
}

// attribute has either a type, in terraform's JSON notation, or nested attributes.
type attribute struct {
	Type     json.RawMessage   `json:"type"`
	Nested   *nestedAttributes `json:"nested"`
	Required bool              `json:"required"`
	Optional bool              `json:"optional"`
	Computed bool              `json:"computed"`
}

type nestedAttributes struct {
	Nesting    string               `json:"nesting"`
	Attributes map[string]attribute `json:"attributes"`
}

type nestedBlock struct {
	Nesting string `json:"nesting"`
	Min     int64  `json:"min"`
	Max     int64  `json:"max"`
	Block   block  `json:"block"`
}

func (s providerSchema) toProtocol() (*tfprotov6.GetProviderSchemaResponse, error) {
	provider, err := s.Provider.toProtocol()
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	resources, err := schemasOf(s.Resources)
	if err != nil {
		return nil, err
	}
	dataSources, err := schemasOf(s.DataSources)
	if err != nil {
		return nil, err
	}
	return &tfprotov6.GetProviderSchemaResponse{
		Provider:          &tfprotov6.Schema{Block: provider},
		ResourceSchemas:   resources,
		DataSourceSchemas: dataSources,
	}, nil
}

func schemasOf(blocks map[string]block) (map[string]*tfprotov6.Schema, error) {
	schemas := make(map[string]*tfprotov6.Schema, len(blocks))
	for name, block := range blocks {
		converted, err := block.toProtocol()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		schemas[name] = &tfprotov6.Schema{Block: converted}
	}
	return schemas, nil
}

func (b block) toProtocol() (*tfprotov6.SchemaBlock, error) {
	attributes, err := attributesOf(b.Attributes)
	if err != nil {
		return nil, err
	}
	converted := &tfprotov6.SchemaBlock{Attributes: attributes}
	for name, nested := range b.Blocks {
		inner, err := nested.Block.toProtocol()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		nesting, ok := blockNesting[nested.Nesting]
		if !ok {
			return nil, fmt.Errorf("%s: unknown nesting %q", name, nested.Nesting)
		}
		converted.BlockTypes = append(converted.BlockTypes, &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: inner, Nesting: nesting, MinItems: nested.Min, MaxItems: nested.Max,
		})
	}
	return converted, nil
}

func attributesOf(attributes map[string]attribute) ([]*tfprotov6.SchemaAttribute, error) {
	converted := make([]*tfprotov6.SchemaAttribute, 0, len(attributes))
	for name, attribute := range attributes {
		result := &tfprotov6.SchemaAttribute{
			Name: name, Required: attribute.Required, Optional: attribute.Optional, Computed: attribute.Computed,
		}
		var err error
		if attribute.Nested == nil {
			//nolint:staticcheck // the one function that reads terraform's own notation of types
			result.Type, err = tftypes.ParseJSONType(attribute.Type)
		} else {
			result.NestedType, err = attribute.Nested.toProtocol()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		converted = append(converted, result)
	}
	return converted, nil
}

func (n nestedAttributes) toProtocol() (*tfprotov6.SchemaObject, error) {
	nesting, ok := objectNesting[n.Nesting]
	if !ok {
		return nil, fmt.Errorf("unknown nesting %q", n.Nesting)
	}
	attributes, err := attributesOf(n.Attributes)
	if err != nil {
		return nil, err
	}
	return &tfprotov6.SchemaObject{Attributes: attributes, Nesting: nesting}, nil
}

var blockNesting = map[string]tfprotov6.SchemaNestedBlockNestingMode{
	"single": tfprotov6.SchemaNestedBlockNestingModeSingle,
	"list":   tfprotov6.SchemaNestedBlockNestingModeList,
	"set":    tfprotov6.SchemaNestedBlockNestingModeSet,
	"map":    tfprotov6.SchemaNestedBlockNestingModeMap,
}

var objectNesting = map[string]tfprotov6.SchemaObjectNestingMode{
	"single": tfprotov6.SchemaObjectNestingModeSingle,
	"list":   tfprotov6.SchemaObjectNestingModeList,
	"set":    tfprotov6.SchemaObjectNestingModeSet,
	"map":    tfprotov6.SchemaObjectNestingModeMap,
}
