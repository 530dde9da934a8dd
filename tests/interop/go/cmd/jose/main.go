// go-jose as the resource: a token of the token service, fetched over mutual TLS, verified by the keys at jwks_uri.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"signet/tests/interop/go/checks"
)

func client() *http.Client {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(os.Getenv("INTEROP_TOKEN_CA"))
	checks.Need("bundle", err)
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(os.Getenv("INTEROP_AGENT_CERT"), os.Getenv("INTEROP_AGENT_KEY"))
	checks.Need("svid", err)
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
}

func decode(response *http.Response, err error, into any) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(into)
}

func main() {
	issuer, resource, id := os.Getenv("INTEROP_TOKEN_ISSUER"), os.Getenv("INTEROP_BEARER_RESOURCE"), os.Getenv("INTEROP_AGENT_ID")
	https := client()
	checks.Report("go_jose_verifies_the_token", func() error {
		var metadata struct {
			JwksURI  string `json:"jwks_uri"`
			Endpoint string `json:"token_endpoint"`
		}
		response, err := https.Get(issuer + "/.well-known/oauth-authorization-server")
		if err := decode(response, err, &metadata); err != nil {
			return err
		}
		var keys jose.JSONWebKeySet
		response, err = https.Get(metadata.JwksURI)
		if err := decode(response, err, &keys); err != nil {
			return err
		}
		var answer struct {
			Token string `json:"access_token"`
		}
		response, err = https.PostForm(metadata.Endpoint, url.Values{"grant_type": {"client_credentials"}, "client_id": {id},
			"resource": {resource}, "scope": {os.Getenv("INTEROP_SCOPE")}})
		if err := decode(response, err, &answer); err != nil {
			return err
		}
		token, err := jwt.ParseSigned(answer.Token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			return err
		}
		var claims jwt.Claims
		if err := token.Claims(&keys, &claims); err != nil {
			return err
		}
		if typ := token.Headers[0].ExtraHeaders["typ"]; typ != "at+jwt" {
			return fmt.Errorf("typ %v", typ)
		}
		return claims.Validate(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{resource}, Subject: id})
	}())
	checks.Done()
}
