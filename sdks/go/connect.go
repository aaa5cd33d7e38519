package plimsoll

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Connect returns a client of the Plimsoll at url (without a path of the API) that presents an API
// token from POST /api/v1/tokens.
func Connect(url, token string) *APIClient {
	configuration := NewConfiguration()
	configuration.Servers = ServerConfigurations{{URL: strings.TrimRight(url, "/")}}
	configuration.AddDefaultHeader("Authorization", "Bearer "+token)
	configuration.HTTPClient = &http.Client{}
	return NewAPIClient(configuration)
}

// Reason is what Plimsoll says went wrong, or the error itself where it says nothing.
func Reason(err error) error {
	var failure *GenericOpenAPIError
	if !errors.As(err, &failure) {
		return err
	}
	var answer Error
	if json.Unmarshal(failure.Body(), &answer) != nil || answer.Error == "" {
		return err
	}
	return fmt.Errorf("%s: %w", answer.Error, err)
}
