// PostHog's library for Go with its defaults: host and key alone. Arguments: address, key, prefix of ids.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/posthog/posthog-go"
)

type told struct{}

func (told) Success(message posthog.APIMessage)            {}
func (told) Failure(message posthog.APIMessage, err error) { fmt.Println("error", err) }

func main() {
	host, key, prefix := os.Args[1], os.Args[2], os.Args[3]
	client, err := posthog.NewWithConfig(key, posthog.Config{Endpoint: "http://" + host, Callback: told{}})
	if err != nil {
		panic(err)
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
