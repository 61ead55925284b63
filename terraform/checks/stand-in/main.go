// A stand-in for a terraform provider: it knows the provider's schema and nothing else. That is enough
// for `terraform validate`, and for `terraform test` with a mocked provider, where the real provider
// cannot be downloaded. It never plans, reads or changes anything.
//
// The schema is the file beside the program: terraform-provider-aws reads terraform-provider-aws.json,
// as ../schema.mjs writes it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	program, err := os.Executable()
	exitOn(err)
	content, err := os.ReadFile(program + ".json")
	exitOn(err)
	var schema providerSchema
	exitOn(json.Unmarshal(content, &schema))
	response, err := schema.toProtocol()
	exitOn(err)
	exitOn(tf6server.Serve(filepath.Base(program), func() tfprotov6.ProviderServer { return standIn{schema: response} }))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in provider:", err)
		os.Exit(1)
	}
}

// standIn answers what `terraform validate` and a mocked test ask. The embedded interface is nil: any other call ends the
// program, which is what a call for real work should do here.
type standIn struct {
	tfprotov6.ProviderServer
	schema *tfprotov6.GetProviderSchemaResponse
}

func (s standIn) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return s.schema, nil
}

func (s standIn) ValidateProviderConfig(_ context.Context, request *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: request.Config}, nil
}

func (s standIn) ValidateResourceConfig(_ context.Context, request *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	diagnostics, err := refuseReadOnly(s.schema.ResourceSchemas[request.TypeName], request.Config)
	return &tfprotov6.ValidateResourceConfigResponse{Diagnostics: diagnostics}, err
}

func (s standIn) ValidateDataResourceConfig(_ context.Context, request *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	diagnostics, err := refuseReadOnly(s.schema.DataSourceSchemas[request.TypeName], request.Config)
	return &tfprotov6.ValidateDataResourceConfigResponse{Diagnostics: diagnostics}, err
}

func (s standIn) ConfigureProvider(context.Context, *tfprotov6.ConfigureProviderRequest) (*tfprotov6.ConfigureProviderResponse, error) {
	return &tfprotov6.ConfigureProviderResponse{Diagnostics: []*tfprotov6.Diagnostic{{
		Severity: tfprotov6.DiagnosticSeverityError,
		Summary:  "This provider is a stand-in",
		Detail:   "It knows the schema for `terraform validate` and mocked tests. To plan or apply, run without terraform/check.",
	}}}, nil
}

func (s standIn) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}
