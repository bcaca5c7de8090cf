package main

import (
	"context"
	"fmt"
	"math"

	"github.com/gatehouse/gatehouse/plugins/sdk"
)

// dewPoint is dew_point(temperature, humidity): the temperature, in °C to a tenth, at
// which the air of a room would begin to condense. By the Magnus formula, over water.
func dewPoint(_ context.Context, args sdk.Args) (any, error) {
	var celsius, percent float64
	if err := args.Decode(&celsius, &percent); err != nil {
		return nil, err
	}
	if percent <= 0 || percent > 100 {
		return nil, fmt.Errorf("humidity %v is outside of 0 to 100 %%", percent)
	}
	const b, c = 17.62, 243.12
	gamma := math.Log(percent/100) + b*celsius/(c+celsius)
	return math.Round(10*c*gamma/(b-gamma)) / 10, nil
}
