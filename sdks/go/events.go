package plimsoll

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Event is something that happened: Type is such as dd:container-updated, Data is the JSON that
// goes with it.
type Event struct {
	Type string
	Data json.RawMessage
}

// The server sends a heartbeat every 15 seconds: three that are missing mean that it is away.
const silence = 45 * time.Second

// The longest line of an event.
const longest = 16 << 20

type position struct {
	id    string
	retry time.Duration
}

// Follow calls each with what happens, until ctx ends or each returns an error, which it returns.
//
// A connection that ends (a replica is replaced, the network is away) is made again and goes on
// where the last one ended; after dd:resync-required that was not possible, so read again what you
// rely on. A refusal, such as that of a wrong token, is returned.
func (c *APIClient) Follow(ctx context.Context, each func(Event) error) error {
	at := position{retry: 2 * time.Second}
	for {
		if err := c.followOnce(ctx, &at, each); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(at.retry):
		}
	}
}

// Nil where it is worth connecting again.
func (c *APIClient) followOnce(ctx context.Context, at *position, each func(Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	base, err := c.cfg.ServerURLWithContext(ctx, "")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/events/ui", nil)
	if err != nil {
		return err
	}
	for name, value := range c.cfg.DefaultHeader {
		request.Header.Set(name, value)
	}
	if at.id != "" {
		request.Header.Set("Last-Event-ID", at.id)
	}
	alarm := time.AfterFunc(silence, cancel)
	defer alarm.Stop()
	answer, err := c.cfg.HTTPClient.Do(request)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	switch status := answer.StatusCode; {
	case status == http.StatusTooManyRequests || status >= 500:
		return nil
	case status != http.StatusOK:
		reason, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
		return fmt.Errorf("%s: %s", answer.Status, reason)
	}
	return read(answer.Body, at, func(event Event) error {
		alarm.Reset(silence)
		return each(event)
	})
}

func read(body io.Reader, at *position, each func(Event) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, longest)
	kind, data, id := "message", []string(nil), at.id
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			// Only now: of an event that was cut off nothing has been seen.
			at.id = id
			if data != nil {
				text := strings.Join(data, "\n")
				if err := each(Event{Type: kind, Data: json.RawMessage(text)}); err != nil {
					return err
				}
			}
			kind, data = "message", nil
		case field == "event":
			kind = value
		case field == "data":
			data = append(data, value)
		case field == "id":
			id = value
		case field == "retry":
			if milliseconds, err := strconv.Atoi(value); err == nil {
				at.retry = time.Duration(milliseconds) * time.Millisecond
			}
		}
	}
	return nil
}
