// Updates a container and follows it to the end:
//
//	PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… go run ./examples/update NAME
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	plimsoll "plimsoll/client"
)

var errDone = errors.New("done")

func main() {
	log.SetFlags(0)
	if err := update(context.Background(), os.Args[1]); err != nil {
		log.Fatal(plimsoll.Reason(err))
	}
}

func update(ctx context.Context, name string) error {
	client := plimsoll.Connect(os.Getenv("PLIMSOLL_URL"), os.Getenv("PLIMSOLL_TOKEN"))

	user, _, err := client.AuthenticationAPI.GetCurrentUser(ctx).Execute()
	if err != nil {
		return err
	}
	fmt.Println("signed in as", user.Username)

	list, _, err := client.ContainersAPI.ListContainers(ctx).Execute()
	if err != nil {
		return err
	}
	var container *plimsoll.Container
	for i, one := range list.Data {
		if one.Name == name {
			container = &list.Data[i]
		}
	}
	if container == nil {
		return fmt.Errorf("there is no container %s", name)
	}
	kind := container.UpdateKind
	fmt.Printf("%s: %s -> %s\n", name, kind.GetLocalValue(), kind.GetRemoteValue())

	operation := ""
	err = client.Follow(ctx, func(event plimsoll.Event) error {
		// Listen first, so that nothing is missed.
		if event.Type == "dd:connected" && operation == "" {
			request := client.ContainersAPI.UpdateContainer(ctx, container.Id)
			accepted, _, err := request.Prefer("respond-async").Execute()
			if err != nil {
				return err
			}
			operation = accepted.OperationId
		}
		var changed struct{ OperationId string }
		if err := json.Unmarshal(event.Data, &changed); err != nil {
			return err
		}
		ours := event.Type == "dd:update-operation-changed" && changed.OperationId == operation
		if !ours && event.Type != "dd:resync-required" {
			return nil
		}
		now, _, err := client.ContainersAPI.GetUpdateOperation(ctx, operation).Execute()
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", now.Status, now.Phase)
		switch now.Status {
		case plimsoll.OPERATIONSTATUS_IN_PROGRESS:
			return nil
		case plimsoll.OPERATIONSTATUS_SUCCEEDED:
			return errDone
		}
		return fmt.Errorf("%s: %s", now.Status, now.GetLastError())
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}
