// A workload on go-spiffe: sources, one-shot calls, refusals, and mutual TLS held up through several rotations.
// The environment says what to expect: SPIFFE_ENDPOINT_SOCKET, INTEROP_SPIFFE_ID, INTEROP_HINT, INTEROP_ROTATIONS,
// INTEROP_AUTHORITIES, INTEROP_TIMEOUT.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"signet/tests/interop/go/checks"
)

const audience = "interop-audience"

func main() {
	want := spiffeid.RequireFromString(os.Getenv("INTEROP_SPIFFE_ID"))
	timeout, err := time.ParseDuration(os.Getenv("INTEROP_TIMEOUT"))
	if err != nil {
		timeout = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()

	x509Source, err := workloadapi.NewX509Source(ctx)
	checks.Need("x509source_starts", err)
	defer x509Source.Close()
	checkX509(ctx, x509Source, want)

	jwtSource, err := workloadapi.NewJWTSource(ctx)
	checks.Need("jwtsource_starts", err)
	defer jwtSource.Close()
	checkJWT(ctx, jwtSource, want)
	checkRefusals(ctx)
	checkRotations(ctx, x509Source, jwtSource, want)
	checks.Done()
}

func checkX509(ctx context.Context, source *workloadapi.X509Source, want spiffeid.ID) {
	svid, err := source.GetX509SVID()
	checks.Need("x509source_svid", err)
	checks.Report("x509_spiffe_id", checks.Equal("SPIFFE ID", svid.ID, want))
	checks.Report("x509_hint", checks.Equal("hint", svid.Hint, os.Getenv("INTEROP_HINT")))
	leaf := svid.Certificates[0]
	checks.Report("x509_dns_names", checks.Equal("DNS names", strings.Join(leaf.DNSNames, " "), "workload.example.org workload"))
	checks.Report("x509_valid_now", validNow(leaf))

	id, _, err := x509svid.Verify(svid.Certificates, source)
	if err == nil {
		err = checks.Equal("verified ID", id, want)
	}
	checks.Report("x509svid_verify", err)

	// A round trip through PKCS#8 and DER: what a workload does that writes its SVID to files.
	certs, key, err := svid.MarshalRaw()
	if err == nil {
		_, err = x509svid.ParseRaw(certs, key)
	}
	checks.Report("x509svid_parse_raw", err)

	bundle, err := source.GetX509BundleForTrustDomain(want.TrustDomain())
	if err == nil && len(bundle.X509Authorities()) == 0 {
		err = errors.New("no authority in it")
	}
	checks.Report("x509_bundle", err)

	bundles, err := workloadapi.FetchX509Bundles(ctx)
	if err == nil && !bundles.Has(want.TrustDomain()) {
		err = errors.New("own trust domain is not among them")
	}
	checks.Report("fetch_x509_bundles", err)

	x509Context, err := workloadapi.FetchX509Context(ctx)
	if err == nil {
		err = checks.Equal("default SVID", x509Context.DefaultSVID().ID, want)
	}
	checks.Report("fetch_x509_context", err)
}

func validNow(leaf *x509.Certificate) error {
	now := time.Now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("valid from %v to %v, now is %v", leaf.NotBefore, leaf.NotAfter, now)
	}
	return nil
}

func checkJWT(ctx context.Context, source *workloadapi.JWTSource, want spiffeid.ID) {
	svid, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	checks.Need("jwtsource_fetch", err)
	checks.Report("jwt_spiffe_id", checks.Equal("SPIFFE ID", svid.ID, want))
	checks.Report("jwt_hint", checks.Equal("hint", svid.Hint, os.Getenv("INTEROP_HINT")))
	checks.Report("jwt_audience", checks.Equal("audience", strings.Join(svid.Audience, " "), audience))
	var expiry error
	if left := time.Until(svid.Expiry); left <= 0 || left > 24*time.Hour {
		expiry = fmt.Errorf("%v left", left)
	}
	checks.Report("jwt_expiry", expiry)

	token := svid.Marshal()
	parsed, err := jwtsvid.ParseAndValidate(token, source, []string{audience})
	if err == nil {
		err = checks.Equal("SPIFFE ID", parsed.ID, want)
	}
	checks.Report("jwtsvid_parse_and_validate", err)

	remote, err := workloadapi.ValidateJWTSVID(ctx, token, audience)
	if err == nil {
		err = checks.Equal("SPIFFE ID", remote.ID, want)
	}
	checks.Report("validate_jwt_svid", err)

	two, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "a1", ExtraAudiences: []string{"a2"}, Subject: want})
	if err == nil {
		got := slices.Sorted(slices.Values(two.Audience))
		err = checks.Equal("audiences", strings.Join(got, " "), "a1 a2")
	}
	checks.Report("jwt_two_audiences_with_subject", err)

	bundle, err := source.GetJWTBundleForTrustDomain(want.TrustDomain())
	if err == nil && len(bundle.JWTAuthorities()) == 0 {
		err = errors.New("no authority in it")
	}
	checks.Report("jwt_bundle", err)

	bundles, err := workloadapi.FetchJWTBundles(ctx)
	if err == nil && !bundles.Has(want.TrustDomain()) {
		err = errors.New("own trust domain is not among them")
	}
	checks.Report("fetch_jwt_bundles", err)

	_, err = workloadapi.ValidateJWTSVID(ctx, token, "someone-else")
	checks.Report("jwt_wrong_audience_refused", refused(err, codes.InvalidArgument))
	_, err = workloadapi.ValidateJWTSVID(ctx, tamper(token), audience)
	checks.Report("jwt_tampered_refused", refused(err, codes.InvalidArgument))
	other := spiffeid.RequireFromPath(want.TrustDomain(), "/somebody-else")
	_, err = source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: other})
	checks.Report("jwt_foreign_subject_refused", refused(err, codes.PermissionDenied))
}

// tamper changes one character in the middle of the payload, so that the signature no longer fits.
func tamper(token string) string {
	parts := strings.Split(token, ".")
	body := []byte(parts[1])
	at := len(body) / 2
	if body[at] == 'A' {
		body[at] = 'B'
	} else {
		body[at] = 'A'
	}
	return parts[0] + "." + string(body) + "." + parts[2]
}

func refused(err error, want codes.Code) error {
	if err == nil {
		return errors.New("it was accepted")
	}
	if got := status.Code(err); got != want {
		return fmt.Errorf("refused with %v (%v), want %v", got, err, want)
	}
	return nil
}

// checkRefusals calls the API as no library would: without the security header, and with no audience.
func checkRefusals(ctx context.Context) {
	conn, err := grpc.NewClient(os.Getenv("SPIFFE_ENDPOINT_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	checks.Need("raw_client", err)
	defer conn.Close()
	client := workload.NewSpiffeWorkloadAPIClient(conn)

	stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	checks.Report("x509_without_header_refused", refused(err, codes.InvalidArgument))
	_, err = client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{audience}})
	checks.Report("jwt_without_header_refused", refused(err, codes.InvalidArgument))

	withHeader := metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	_, err = client.FetchJWTSVID(withHeader, &workload.JWTSVIDRequest{})
	checks.Report("jwt_without_audience_refused", refused(err, codes.InvalidArgument))
}

// checkRotations runs a spiffetls server and client, each with a source of its own, exchanging a line a few times a
// second on new connections, until both have been rotated so many times and certificates of so many authorities were
// seen. Every exchange must succeed, and one connection opened before the first rotation must still carry data after
// the last. With more than one authority to see, JWT-SVIDs are fetched and validated all along too.
func checkRotations(ctx context.Context, serverSource *workloadapi.X509Source, jwtSource *workloadapi.JWTSource, want spiffeid.ID) {
	rotations, authorities := number("INTEROP_ROTATIONS", 3), number("INTEROP_AUTHORITIES", 1)
	clientSource, err := workloadapi.NewX509Source(ctx)
	checks.Need("second_x509source", err)
	defer clientSource.Close()

	authorize := tlsconfig.AuthorizeID(want)
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", spiffetls.MTLSServerWithSource(authorize, serverSource))
	checks.Need("spiffetls_listen", err)
	defer listener.Close()
	var servers sync.WaitGroup
	servers.Add(1)
	go func() {
		defer servers.Done()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()

	dial := func() (io.ReadWriteCloser, error) {
		return spiffetls.DialWithMode(ctx, "tcp", listener.Addr().String(), spiffetls.MTLSClientWithSource(authorize, clientSource))
	}
	old, err := dial()
	checks.Need("spiffetls_dial", err)
	defer old.Close()
	checks.Need("mtls_first_exchange", exchange(old))

	sides := []*side{newSide("server", serverSource), newSide("client", clientSource)}
	jwtKeys := map[string]bool{}
	var stale, jwtFailure, failure error
	exchanges := 0
	enough := func() bool {
		for _, s := range sides {
			if len(s.serials) <= rotations || len(s.issuers) < authorities {
				return false
			}
		}
		return authorities == 1 || len(jwtKeys) >= authorities
	}
	for failure == nil && !enough() {
		for _, s := range sides {
			if err := s.look(); err != nil && stale == nil {
				stale = err
			}
		}
		conn, err := dial()
		if err == nil {
			err = exchange(conn)
			conn.Close()
		}
		if err != nil {
			failure = fmt.Errorf("exchange %d: %w", exchanges, err)
			break
		}
		exchanges++
		if authorities > 1 && exchanges%5 == 0 && jwtFailure == nil {
			jwtFailure = oneJWT(ctx, jwtSource, jwtKeys)
		}
		select {
		case <-ctx.Done():
			failure = fmt.Errorf("after %d exchanges: server %v, client %v, %d JWT keys: %w", exchanges, sides[0], sides[1],
				len(jwtKeys), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	checks.Report(fmt.Sprintf("mtls_through_%d_rotations_of_%d_authorities", rotations, authorities), failure)
	checks.Report("no_expired_svid_between_rotations", stale)
	checks.Report("mtls_old_connection_survives", exchange(old))
	if authorities > 1 {
		checks.Report("jwt_valid_through_key_rotations", jwtFailure)
	}
	listener.Close()
	servers.Wait()
}

// side is what was seen of one source.
type side struct {
	name             string
	source           *workloadapi.X509Source
	serials, issuers map[string]bool
}

func newSide(name string, source *workloadapi.X509Source) *side {
	return &side{name, source, map[string]bool{}, map[string]bool{}}
}

func (s *side) String() string {
	return fmt.Sprintf("%d certificates of %d authorities", len(s.serials), len(s.issuers))
}

func (s *side) look() error {
	svid, err := s.source.GetX509SVID()
	if err == nil {
		leaf := svid.Certificates[0]
		s.serials[leaf.SerialNumber.String()] = true
		s.issuers[string(leaf.AuthorityKeyId)] = true
		err = validNow(leaf)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// oneJWT fetches a JWT-SVID, validates it with the source's bundle as it is now, and notes the key that signed it.
func oneJWT(ctx context.Context, source *workloadapi.JWTSource, keys map[string]bool) error {
	svid, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	token := svid.Marshal()
	if _, err := jwtsvid.ParseAndValidate(token, source, []string{audience}); err != nil {
		return err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256})
	if err != nil {
		return err
	}
	keys[parsed.Headers[0].KeyID] = true
	return nil
}

func number(variable string, otherwise int) int {
	value, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return otherwise
	}
	return value
}

func echo(conn io.ReadWriteCloser) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := fmt.Fprintf(conn, "echo %s\n", lines.Text()); err != nil {
			return
		}
	}
}

func exchange(conn io.ReadWriter) error {
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	answer := make([]byte, len("echo hello\n"))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	return checks.Equal("answer", string(answer), "echo hello\n")
}
