// Publishes two events, as protobuf over Connect, and prints what the gateway says of each.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "millrace.example/gen/millrace/events/v1"
	"millrace.example/gen/millrace/events/v1/eventsv1connect"
)

func main() {
	url := cmp.Or(os.Getenv("MILLRACE_URL"), "http://localhost:8080")
	client := eventsv1connect.NewEventServiceClient(&http.Client{Timeout: 10 * time.Second}, url)
	if err := publish(context.Background(), client); err != nil {
		log.Fatal(err)
	}
}

func publish(ctx context.Context, client eventsv1connect.EventServiceClient) error {
	properties, err := structpb.NewStruct(map[string]any{"currency": "EUR", "items": 3})
	if err != nil {
		return err
	}
	paid := &eventsv1.Event{
		Id:             newID(),
		Event:          "order_paid",
		DistinctId:     "ada",
		Source:         "go",
		Value:          proto.Float64(129.5),
		Time:           timestamppb.Now(),
		PropertiesKind: &eventsv1.Event_Properties{Properties: properties},
	}
	nameless := &eventsv1.Event{Id: newID(), DistinctId: "ada"}
	request := connect.NewRequest(&eventsv1.PublishRequest{Events: []*eventsv1.Event{paid, nameless}})
	if key := os.Getenv("MILLRACE_API_KEY"); key != "" {
		request.Header().Set("Authorization", "Bearer "+key)
	}
	response, err := client.Publish(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println("accepted", response.Msg.GetAccepted())
	for _, rejection := range response.Msg.GetRejected() {
		fmt.Printf("rejected %d: %s %s\n", rejection.GetIndex(), rejection.GetField(), rejection.GetMessage())
	}
	return nil
}

// newID makes a UUIDv4. With it an event can be sent again after an error without becoming two.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
