package rules

import "context"

// Settle returns when every lane has taken up what was there for it when Settle was
// called, made the calls that were due by the Clock, and asked the Clock for when it
// has to do something next. It is for a Clock and a bus that stand still meanwhile, as
// in a trial: what the calls publish is in the bus's hands, which may bring it back.
// It waits for [Engine.Run], and returns the error of ctx if that ends first.
func (e *Engine) Settle(ctx context.Context) error {
	const turns = 2 // what a lane waits for is asked for after the first
	for range turns {
		for _, l := range e.lanes {
			if err := l.do(ctx, batch{}); err != nil {
				return err
			}
		}
	}
	return nil
}
