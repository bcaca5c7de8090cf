package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse/gatehouse/broker"
	"github.com/gatehouse/gatehouse/broker/auth"
	"github.com/gatehouse/gatehouse/broker/packet"
)

// from is a client at an address.
func from(ip, user string) broker.Identity {
	who := far(user)
	who.Remote = &net.TCPAddr{IP: net.ParseIP(ip), Port: 4000}
	return who
}

// try tries a password as a client would, with 5 s to be connected, and tells how long
// it took.
func try(t *testing.T, a *auth.Authority, who broker.Identity, password string) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	_, err := a.Connect(ctx, who, []byte(password))
	return time.Since(began), err
}

func TestGuessingIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick)}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		guesser, guesses, refused := from("192.0.2.1", "anna"), 0, 0
		var waits []time.Duration
		for began := time.Now(); time.Since(began) < time.Hour; {
			took, err := try(t, a, guesser, "guess")
			switch {
			case errors.Is(err, packet.BadUserNameOrPassword):
				guesses++
				waits = append(waits, took)
			case errors.Is(err, packet.ConnectionRateExceeded):
				refused++
				time.Sleep(time.Second) //nolint:forbidigo // the bubble's time
			default:
				t.Fatalf("got %v", err)
			}
		}
		if guesses > 140 || guesses < 100 {
			t.Errorf("%d guesses in an hour, want about two a minute", guesses)
		}
		if refused == 0 || waits[2] != 0 || waits[5] < 300*time.Millisecond {
			t.Errorf("%d were refused; the first waited %v", refused, waits[:8])
		}
		if lines := strings.Count(log.String(), "\n"); lines < 50 || lines > 61 {
			t.Errorf("the log has %d lines, want one a minute", lines)
		}
		if strings.Contains(log.String(), "guess\n") || !strings.Contains(log.String(), "192.0.2.1") {
			t.Errorf("the log says %s", log.String())
		}
		// Others do not notice.
		for _, who := range []broker.Identity{from("192.0.2.2", "anna"), from("2001:db8::1", "anna"), near("anna")} {
			if took, err := try(t, a, who, "pencil"); took != 0 || err != nil {
				t.Errorf("%v waited %v, %v", who.Remote, took, err)
			}
		}
		// And it is forgiven.
		time.Sleep(11 * time.Minute) //nolint:forbidigo // the bubble's time
		if took, err := try(t, a, guesser, "pencil"); took != 0 || err != nil {
			t.Errorf("after a while it waited %v, %v", took, err)
		}
	})
}

func TestAddressesThatCountAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick)}})
		for i := range 6 { // a house has a whole /64
			if _, err := try(t, a, from(fmt.Sprintf("2001:db8::%d", i+1), "anna"), "guess"); err == nil {
				t.Fatal("a guess was right")
			}
		}
		if took, _ := try(t, a, from("2001:db8::99", "anna"), "pencil"); took == 0 {
			t.Error("another address of the same network is not slowed down")
		}
		if took, _ := try(t, a, from("2001:db8:0:1::1", "anna"), "pencil"); took != 0 {
			t.Errorf("another network waits %v", took)
		}
		if a.Addresses() != 1 {
			t.Errorf("%d addresses are remembered", a.Addresses())
		}
	})
}

func TestLoopbackIsNotSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick)}})
		for range 50 {
			if took, err := try(t, a, near("anna"), "guess"); took != 0 || !errors.Is(err, packet.BadUserNameOrPassword) {
				t.Fatalf("waited %v, %v", took, err)
			}
		}
		if a.Addresses() != 0 {
			t.Errorf("%d addresses are remembered", a.Addresses())
		}
	})
}

func TestManyAddressesCostABoundedTable(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick)}})
	for i := range auth.MostAddresses + 500 {
		if _, err := a.Connect(t.Context(), from(fmt.Sprintf("10.0.%d.%d", i/256, i%256), "anna"), []byte("guess")); err == nil {
			t.Fatal("a guess was right")
		}
	}
	if a.Addresses() != auth.MostAddresses {
		t.Errorf("%d addresses are remembered, want %d", a.Addresses(), auth.MostAddresses)
	}
}

// Guesses that come at once get no more than guesses one after the other, and a fleet
// of clients with right passwords that comes at once is not slowed down.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := func(password string) (in, guessed, refused int) {
			a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+quick)}})
			var mu sync.Mutex
			var wait sync.WaitGroup
			for range 200 {
				wait.Go(func() {
					_, err := try(t, a, from("192.0.2.1", "anna"), password)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						in++
					case errors.Is(err, packet.BadUserNameOrPassword):
						guessed++
					default:
						refused++
					}
				})
			}
			wait.Wait()
			return in, guessed, refused
		}
		if in, guessed, refused := count("guess"); in != 0 || guessed > 15 || guessed+refused != 200 {
			t.Errorf("%d came in, %d guesses were looked at, %d refused", in, guessed, refused)
		}
		if in, _, _ := count("pencil"); in != 200 {
			t.Errorf("%d of 200 came in", in)
		}
	})
}

// Exchanges that were begun at once, before any has failed, are no more guesses.
func TestManyExchangesAtOnce(t *testing.T) {
	a := auth.New(auth.Options{Policy: auth.Policy{Users: users(t, "anna:"+auth.ScramKeys([]byte("pencil")))}})
	client := scramClient{"anna", "guess", "n,,", "abc"}
	var finals []func() error
	for range 50 {
		x, err := a.Exchange(from("192.0.2.1", ""), scram)
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := x.Step(t.Context(), []byte(client.first()))
		if err != nil {
			t.Fatal(err)
		}
		final, _ := client.final(t, string(answer))
		finals = append(finals, func() error {
			_, _, err := x.Step(t.Context(), []byte(final))
			return err
		})
	}
	looked := 0
	for _, final := range finals {
		switch err := final(); {
		case errors.Is(err, packet.BadUserNameOrPassword):
			looked++
		case !errors.Is(err, packet.ConnectionRateExceeded):
			t.Fatalf("got %v", err)
		}
	}
	if looked > 5 {
		t.Errorf("%d guesses were looked at", looked)
	}
}
