package mem_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gatehouse/gatehouse/broker/store"
	"github.com/gatehouse/gatehouse/broker/store/mem"
	"github.com/gatehouse/gatehouse/broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return mem.New() }, nil)
}
