package gateway

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s settler
		folder := t.TempDir()
		file := filepath.Join(folder, "rule.yaml")
		took := func(paths ...string) time.Duration {
			begin := time.Now()
			s.settle(t.Context(), paths...)
			return time.Since(begin)
		}
		if d := took(folder, "", filepath.Join(folder, "missing")); d != 0 {
			t.Errorf("waited %v for nothing", d)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(folder, link); err != nil {
			t.Fatal(err)
		}
		write(t, file, "")
		saved := make(chan struct{})
		go func() {
			defer close(saved)
			<-time.After(350 * time.Millisecond)
			if err := os.WriteFile(file, []byte("rules: []"), 0o600); err != nil {
				t.Error(err)
			}
		}()
		if d := took(link); d < 350*time.Millisecond || d > 500*time.Millisecond {
			t.Errorf("waited %v for a file that was saved after 350ms", d)
		}
		<-saved
		write(t, file, "")
		if d := took(folder); d != looks*lookAgain {
			t.Errorf("waited %v for a file that stays empty", d)
		}
		if d := took(folder); d != 0 {
			t.Errorf("waited %v for a file that is known to be empty", d)
		}
	})
}
