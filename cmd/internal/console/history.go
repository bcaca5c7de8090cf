package console

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Historian is what the console shows of the past. Its methods may be called at any
// time, by any goroutine.
type Historian interface {
	Series() []Series
	// Past returns what is asked for, oldest first; a series that is not there has
	// nothing.
	Past(ctx context.Context, q PastQuery) ([]Past, error)
}

// Series is the numbers of one topic, or of one field of its payloads.
type Series struct {
	Name  string    `json:"name" doc:"TOPIC, or TOPIC#FIELD"`
	Since time.Time `json:"since"`
	Bytes int64     `json:"bytes" doc:"What it takes of the store"`
}

// PastQuery asks for a part of a series. The zero times are the beginning and the end;
// a step above 0 asks for summaries.
type PastQuery struct {
	Series   string
	From, To time.Time
	Step     time.Duration
	Limit    int
}

// Past is a number and when it came or, of a step of time, the mean and when the step
// began.
type Past struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value" doc:"The mean, if there are several"`
	Count int       `json:"count" doc:"How many numbers"`
	Min   *float64  `json:"min,omitempty"`
	Max   *float64  `json:"max,omitempty"`
}

type pastInput struct {
	Series string    `query:"series" required:"true" doc:"TOPIC, or TOPIC#FIELD"`
	From   time.Time `query:"from" doc:"Not before; default the beginning"`
	To     time.Time `query:"to" doc:"Before; default the end"`
	Step   int       `query:"step" minimum:"0" maximum:"31622400" doc:"Seconds; 0, the default, is every number as it came"`
	Limit  int       `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
}

func (c *Console) historyAPI(api huma.API) {
	if c.opt.History == nil {
		return
	}
	list(api, "series", "Series of numbers that are kept", c.opt.History.Series)
	huma.Register(api, operation("history", "What a series was"), func(ctx context.Context, in *pastInput) (*body[[]Past], error) {
		past, err := c.opt.History.Past(ctx, PastQuery{
			Series: in.Series, From: in.From, To: in.To, Step: time.Duration(in.Step) * time.Second, Limit: in.Limit,
		})
		if err != nil {
			return nil, err
		}
		return &body[[]Past]{Body: orEmpty(past)}, nil
	})
}
