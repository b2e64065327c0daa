//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageDiskFull lets users send a picture and a file to servers whose disk is nearly full. The
// page says so in its own language.
func TestPageDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser: not with -short")
	}
	t.Parallel()
	takeProcessor(t)
	chromium := browser(t)
	_, page := startDemo(t, "--msfs.min-free", "1024GiB", "--file.min-free", "1024GiB")
	photo := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(photo, picture(t), 0o600); err != nil {
		t.Fatal(err)
	}
	report, _ := writeRandom(t, "report.pdf", 1000)
	for _, x := range []struct{ name, other, lang, why string }{
		{"alice", "bob", "en", "the server has no more space"},
		{"bob", "alice", "zh", "服务器存储空间已满"},
	} {
		p := opens(t, chromium, page.url("/"), x.name)
		p.sees(x.lang, "document.documentElement.lang.startsWith(%q) || ([...document."+
			"querySelectorAll('button')].find(b => b.innerText === '中文')?.click(), false)", x.lang)
		p.logsIn("demo")
		p.clicks(named("tab-contacts"))
		p.clicks(contact(x.other))
		p.does(chromedp.SetUploadFiles(chromedp.CSS(named("picture-input")),
			[]string{photo, report}))
		p.clicks(named("send"))
		for _, failed := range []string{"message", "file"} {
			p.sees("why "+failed+" failed", "document.querySelector(%q)?.innerText.includes(%q)",
				named(failed)+"[data-state=failed]", x.why)
		}
	}
}
