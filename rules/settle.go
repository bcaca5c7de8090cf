package rules

import "context"

// Settle returns when every lane has taken up what was there for it when Settle was
// called, made the calls that were due by the Clock, and asked the Clock for when it
// has to do something next, and when every HTTP request is back that does not wait for
// the Clock. It is for a Clock and a bus that stand still meanwhile, as in a trial: what
// the calls publish is in the bus's hands, which may bring it back. It waits for
// [Engine.Run], and returns the error of ctx if that ends first.
func (e *Engine) Settle(ctx context.Context) error {
	const turns = 2 // what a lane waits for is asked for after the first
	for {
		before := e.flightChanges()
		for range turns {
			for _, l := range e.lanes {
				if err := l.do(ctx, batch{}); err != nil {
					return err
				}
			}
		}
		for _, l := range e.lanes {
			for l.flights.busy(e.clock.Now()) {
				select {
				case <-l.flights.landed:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		if e.flightChanges() == before {
			return nil
		}
	}
}

// flightChanges counts what requests have gone through.
func (e *Engine) flightChanges() (n uint64) {
	for _, l := range e.lanes {
		n += l.flights.count()
	}
	return n
}
