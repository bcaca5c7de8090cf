package console

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type body[T any] struct {
	Body T
}

type topicsInput struct {
	Filter string `query:"filter" default:"#" doc:"Topic filter; # does not match topics that begin with $"`
	Limit  int    `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
}

// api adds the JSON API to mux.
func (c *Console) api(mux *http.ServeMux) {
	config := huma.DefaultConfig("Gatehouse", c.opt.Version)
	config.DocsPath = ""     // its page would load scripts from elsewhere
	config.CreateHooks = nil // no $schema links in the answers
	config.SchemasPath = ""
	api := humago.New(mux, config)

	list(api, "clients", "Sessions and who is connected", c.opt.Source.Clients)
	list(api, "listeners", "Listeners, what they took and refused, their certificates", c.opt.Listeners)
	list(api, "rules", "Rule files with their rules, counters, errors and last runs", c.opt.Source.Rules)
	list(api, "devices", "Devices with their points", c.opt.Source.Devices)
	list(api, "plugins", "Plugin processes", c.opt.Source.Plugins)
	c.historyAPI(api)
	if c.opt.Store != nil {
		huma.Register(api, operation("store", "The durable state: what it promises, holds, wrote and refused"), func(context.Context, *struct{}) (*body[Store], error) {
			return &body[Store]{Body: c.opt.Store()}, nil
		})
	}
	huma.Register(api, operation("topics", "Retained messages"), func(_ context.Context, in *topicsInput) (*body[[]Topic], error) {
		topics, err := c.opt.Source.Topics(in.Filter, in.Limit)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{
				Location: "query.filter", Message: err.Error(), Value: in.Filter,
			})
		}
		return &body[[]Topic]{Body: orEmpty(topics)}, nil
	})
}

// list adds a resource that is a plain list.
func list[T any](api huma.API, name, summary string, get func() []T) {
	huma.Register(api, operation(name, summary), func(context.Context, *struct{}) (*body[[]T], error) {
		return &body[[]T]{Body: orEmpty(get())}, nil
	})
}

func operation(name, summary string) huma.Operation {
	return huma.Operation{
		OperationID: "list-" + name,
		Method:      http.MethodGet,
		Path:        "/api/v1/" + name,
		Summary:     summary,
		Tags:        []string{name},
	}
}

// orEmpty makes an empty list "[]" in JSON, not "null".
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
