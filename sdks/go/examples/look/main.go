// Shows what a container uses and said last, with a token of its own that is gone afterwards:
//
//	PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… go run ./examples/look NAME
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	plimsoll "plimsoll/client"
)

func main() {
	log.SetFlags(0)
	if err := look(context.Background(), os.Args[1]); err != nil {
		log.Fatal(plimsoll.Reason(err))
	}
}

func look(ctx context.Context, name string) error {
	url := os.Getenv("PLIMSOLL_URL")
	client := plimsoll.Connect(url, os.Getenv("PLIMSOLL_TOKEN"))

	scopes := []plimsoll.Permission{plimsoll.PERMISSION_CONTAINERS_READ}
	wanted := plimsoll.CreateTokenRequest{Name: "look", Scopes: scopes}
	token, _, err := client.TokensAPI.CreateToken(ctx).CreateTokenRequest(wanted).Execute()
	if err != nil {
		return err
	}
	reader := plimsoll.Connect(url, token.Token).ContainersAPI

	list, _, err := reader.ListContainers(ctx).Execute()
	if err != nil {
		return err
	}
	id := ""
	for _, one := range list.Data {
		if one.Name == name {
			id = one.Id
		}
	}
	if id == "" {
		return fmt.Errorf("there is no container %s", name)
	}
	stats, _, err := reader.GetContainerStats(ctx, id).Execute()
	if err != nil {
		return err
	}
	if usage := stats.Data.Get(); usage != nil {
		fmt.Printf("%d of %d bytes\n", usage.MemoryUsageBytes, usage.MemoryLimitBytes)
	}
	logs, _, err := reader.GetContainerLogs(ctx, id).Tail(1).Timestamps(false).Execute()
	if err != nil {
		return err
	}
	fmt.Println(strings.TrimSpace(logs))

	_, err = client.TokensAPI.RevokeToken(ctx, token.Id).Execute()
	return err
}
