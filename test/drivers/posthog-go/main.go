// PostHog's library for Go with its defaults: host and key alone. Arguments: address, key, prefix of ids; and a gate and a
// number, to send so many events before the gate and behind it.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/posthog/posthog-go"
)

var told, failed atomic.Int64

type counted struct{}

func (counted) Success(message posthog.APIMessage) { told.Add(1) }
func (counted) Failure(message posthog.APIMessage, err error) {
	failed.Add(1)
	fmt.Println("error", err)
}

func main() {
	host, key, prefix := os.Args[1], os.Args[2], os.Args[3]
	client, err := posthog.NewWithConfig(key, posthog.Config{Endpoint: "http://" + host, Callback: counted{}})
	if err != nil {
		panic(err)
	}
	if len(os.Args) > 5 {
		sendAroundGate(client, prefix, os.Args[4], os.Args[5])
		return
	}
	user := prefix + "-user"
	at := time.Date(2026, 3, 27, 12, 0, 0, 123456000, time.UTC)
	messages := []posthog.Message{
		posthog.Capture{DistinctId: user, Event: "bought", Timestamp: at,
			Properties: posthog.NewProperties().Set("price", 3.5).Set("name", "é"),
			Groups:     posthog.NewGroups().Set("company", prefix)},
		posthog.Identify{DistinctId: user, Properties: posthog.NewProperties().Set("plan", "pro")},
		posthog.Alias{DistinctId: user, Alias: prefix + "-anon"},
		posthog.GroupIdentify{Type: "company", Key: prefix, Properties: posthog.NewProperties().Set("size", 3)},
	}
	for _, message := range messages {
		if err := client.Enqueue(message); err != nil {
			fmt.Println("error", err)
		}
	}
	flag, err := client.GetFeatureFlag(posthog.FeatureFlagPayload{Key: "beta", DistinctId: user})
	fmt.Println("flag", flag, err)
	client.Close()
}

func sendAroundGate(client posthog.Client, name string, gate string, number string) {
	count, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	// Returns when it was told what became of them: it has no flush, and Close gives up what fails from then on.
	send := func(from int) {
		for n := from; n < from+count; n++ {
			properties := posthog.NewProperties().Set("client", name).Set("n", n)
			if err := client.Enqueue(posthog.Capture{DistinctId: name, Event: "killed", Properties: properties}); err != nil {
				fmt.Println("error", err)
			}
		}
		for told.Load()+failed.Load() < int64(from+count) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	send(0)
	if _, err := http.Get(gate); err != nil {
		panic(err)
	}
	send(count)
	tooLong := fmt.Sprintf("%0300d", 0)
	if err := client.Enqueue(posthog.Capture{DistinctId: name, Event: tooLong}); err != nil {
		fmt.Println("error", err)
	}
	client.Close()
	fmt.Println("failed", failed.Load())
}
