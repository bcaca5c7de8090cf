package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/gatehouse/gatehouse/broker/message"
	"github.com/gatehouse/gatehouse/cmd/internal/config"
	"github.com/gatehouse/gatehouse/cmd/internal/console"
	"github.com/gatehouse/gatehouse/rules"
)

// hooks are the webhooks that rules may have.
type hooks struct {
	rules  *rules.Engine
	tokens map[string][sha256.Size]byte
}

// newHooks takes the webhooks of a configuration that was checked.
func newHooks(engine *rules.Engine, all []config.Hook) (*hooks, error) {
	h := &hooks{rules: engine, tokens: make(map[string][sha256.Size]byte, len(all))}
	for i := range all {
		secret, err := all[i].Secret()
		if err != nil {
			return nil, err
		}
		h.tokens[all[i].Name] = sha256.Sum256([]byte(secret))
	}
	return h, nil
}

// run runs the rules of a webhook, for who shows its token. Who does not learns nothing
// of which there are.
func (h *hooks) run(ctx context.Context, name, token string, body func() ([]byte, error), contentType string) error {
	want, known := h.tokens[name]
	shown := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(want[:], shown[:]) != 1 || !known {
		return console.ErrToken
	}
	payload, err := body()
	if err != nil {
		return err
	}
	err = h.rules.Hook(ctx, name, message.Message{Payload: payload, ContentType: contentType})
	if errors.Is(err, rules.ErrNoHook) {
		return console.ErrNoHook
	}
	return err
}
