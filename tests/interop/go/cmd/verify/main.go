// verify CHAIN BUNDLE TRUST_DOMAIN [KEY]: go-spiffe's verdict on files. CHAIN is PEM, leaf first; BUNDLE is PEM or a
// SPIFFE bundle document; with KEY (PEM PKCS#8) the pair is also parsed as an X509-SVID. Prints "OK id" or "BAD why".
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: verify CHAIN BUNDLE TRUST_DOMAIN [KEY]")
		os.Exit(2)
	}
	id, err := verify(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err != nil {
		fmt.Println("BAD", err)
		os.Exit(1)
	}
	fmt.Println("OK", id)
}

func verify(chainPath, bundlePath, trustDomainName string, key []string) (string, error) {
	trustDomain, err := spiffeid.TrustDomainFromString(trustDomainName)
	if err != nil {
		return "", err
	}
	chain, err := readChain(chainPath)
	if err != nil {
		return "", err
	}
	bundle, err := readBundle(trustDomain, bundlePath)
	if err != nil {
		return "", err
	}
	id, _, err := x509svid.Verify(chain, bundle)
	if err != nil {
		return "", err
	}
	if len(key) > 0 {
		if _, err := x509svid.Load(chainPath, key[0]); err != nil {
			return "", err
		}
	}
	return id.String(), nil
}

func readChain(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return chain, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
}

func readBundle(trustDomain spiffeid.TrustDomain, path string) (x509bundle.Source, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
		return spiffebundle.Parse(trustDomain, content)
	}
	return x509bundle.Parse(trustDomain, content)
}
