// shapes OUT_DIR: asks the server for every kind of certificate it issues and leaves each as PEM files for other
// judges: NAME.pem (chain, leaf first), NAME.key where we hold the key, root.pem, bundle.json.
// It plays an agent on the raw wire: attests with a join token, renews, signs workloads' CSRs of several key types.
// The environment: INTEROP_ADMIN_SOCKET, INTEROP_SERVER, INTEROP_TRUST_DOMAIN.
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"signet/tests/interop/go/checks"
)

const audience = "shapes-audience"

type run struct {
	ctx         context.Context
	out         string
	trustDomain spiffeid.TrustDomain
	bundle      *spiffebundle.Bundle
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := &run{ctx: ctx, out: os.Args[1], trustDomain: spiffeid.RequireTrustDomainFromString(os.Getenv("INTEROP_TRUST_DOMAIN"))}

	admin, err := grpc.NewClient("unix://"+os.Getenv("INTEROP_ADMIN_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	checks.Need("admin_client", err)
	defer admin.Close()

	r.local(admin)
	r.root(admin)
	r.minted(admin)
	r.serverCertificate()
	r.agent(admin)
	checks.Done()
}

// local covers what only the admin socket answers.
func (r *run) local(admin *grpc.ClientConn) {
	health, err := grpc_health_v1.NewHealthClient(admin).Check(r.ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		err = checks.Equal("health", health.Status, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	checks.Report("grpc_health", err)
	info, err := debugv1.NewDebugClient(admin).GetInfo(r.ctx, &debugv1.GetInfoRequest{})
	if err == nil && len(info.SvidChain) == 0 {
		err = errors.New("no SVID chain of the server in it")
	}
	checks.Report("debug_getinfo", err)
}

func (r *run) root(admin *grpc.ClientConn) {
	answer, err := bundlev1.NewBundleClient(admin).GetBundle(r.ctx, &bundlev1.GetBundleRequest{})
	checks.Need("bundle_get", err)
	r.bundle = spiffebundle.New(r.trustDomain)
	var pemBytes []byte
	for _, authority := range answer.X509Authorities {
		roots, err := x509.ParseCertificates(authority.Asn1)
		checks.Need("bundle_authority_parses", err)
		for _, root := range roots {
			r.bundle.AddX509Authority(root)
			checks.Report("root_is_a_spiffe_ca", checkRoot(root, r.trustDomain))
		}
		pemBytes = append(pemBytes, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Asn1})...)
	}
	for _, authority := range answer.JwtAuthorities {
		key, err := x509.ParsePKIXPublicKey(authority.PublicKey)
		checks.Need("bundle_jwt_key_parses", err)
		checks.Need("bundle_jwt_key_added", r.bundle.AddJWTAuthority(authority.KeyId, key))
	}
	r.write("root.pem", pemBytes)

	// The bundle document as go-spiffe writes it must be the bundle it reads back.
	document, err := r.bundle.Marshal()
	if err == nil {
		var again *spiffebundle.Bundle
		if again, err = spiffebundle.Parse(r.trustDomain, document); err == nil {
			err = checks.Equal("bundle after a round trip is equal", again.Equal(r.bundle), true)
		}
	}
	checks.Report("spiffebundle_round_trip", err)
	r.write("bundle.json", document)
}

// checkRoot: the rules of the X509-SVID standard, section 3, for a signing certificate.
func checkRoot(root *x509.Certificate, trustDomain spiffeid.TrustDomain) error {
	switch {
	case !root.IsCA || !root.BasicConstraintsValid:
		return errors.New("basicConstraints do not say CA")
	case root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign && root.KeyUsage != x509.KeyUsageCertSign:
		return fmt.Errorf("key usage %b", root.KeyUsage)
	case len(root.URIs) != 1 || root.URIs[0].String() != trustDomain.IDString():
		return fmt.Errorf("URI SANs %v", root.URIs)
	case len(root.SubjectKeyId) == 0:
		return errors.New("no subject key id")
	}
	return root.CheckSignatureFrom(root)
}

func (r *run) minted(admin *grpc.ClientConn) {
	id := spiffeid.RequireFromPath(r.trustDomain, "/minted")
	client := svidv1.NewSVIDClient(admin)
	for name, key := range keys() {
		csr := mustCSR(key, id, "minted.example.org")
		answer, err := client.MintX509SVID(r.ctx, &svidv1.MintX509SVIDRequest{Csr: csr, Ttl: 600})
		if !checks.Report("mint_"+name, err) {
			continue
		}
		chain := r.keep("minted_"+name, answer.Svid, id, key)
		var names error
		if chain != nil {
			names = checks.Equal("DNS names", strings.Join(chain[0].DNSNames, " "), "minted.example.org")
			if left := time.Until(chain[0].NotAfter); names == nil && (left < 9*time.Minute || left > 11*time.Minute) {
				names = fmt.Errorf("asked for 10 min, %v left", left)
			}
		}
		checks.Report("minted_"+name+"_as_asked", names)
	}

	answer, err := client.MintJWTSVID(r.ctx, &svidv1.MintJWTSVIDRequest{
		Id: protoID(id), Audience: []string{audience, "second"}, Ttl: 120})
	if !checks.Report("mint_jwt", err) {
		return
	}
	svid, err := jwtsvid.ParseAndValidate(answer.Svid.Token, r.bundle, []string{audience})
	if err == nil {
		err = checks.Equal("SPIFFE ID", svid.ID, id)
	}
	checks.Report("minted_jwt_validates", err)
	r.write("minted.jwt", []byte(answer.Svid.Token))
}

func (r *run) serverCertificate() {
	conn, err := tls.Dial("tcp", os.Getenv("INTEROP_SERVER"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	checks.Need("server_tls", err)
	defer conn.Close()
	var raw [][]byte
	for _, certificate := range conn.ConnectionState().PeerCertificates {
		raw = append(raw, certificate.Raw)
	}
	id := spiffeid.RequireFromPath(r.trustDomain, "/spire/server")
	r.keep("server", &types.X509SVID{Id: protoID(id), CertChain: raw}, id, nil)
}

func (r *run) agent(admin *grpc.ClientConn) {
	token, err := agentv1.NewAgentClient(admin).CreateJoinToken(r.ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60})
	checks.Need("create_join_token", err)
	id := spiffeid.RequireFromPath(r.trustDomain, "/spire/agent/join_token/"+token.Value)

	key := mustKey(elliptic.P256())
	chain, err := r.attest(token.Value, key)
	checks.Need("attest_join_token", err)
	r.keep("agent", chain, id, key)
	_, err = r.attest(token.Value, mustKey(elliptic.P256()))
	checks.Report("spent_token_refused", refused(err, codes.InvalidArgument, codes.PermissionDenied))
	_, err = r.attest("no-such-token", mustKey(elliptic.P256()))
	checks.Report("unknown_token_refused", refused(err, codes.InvalidArgument, codes.PermissionDenied))

	entry := r.entryFor(admin, id)
	conn := r.dialAs(chain, key)
	defer conn.Close()

	renewKey := mustKey(elliptic.P256())
	renewed, err := agentv1.NewAgentClient(conn).RenewAgent(r.ctx, &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: mustCSR(renewKey, spiffeid.ID{})}})
	if checks.Report("renew_agent", err) {
		r.keep("agent_renewed", renewed.Svid, id, renewKey)
		// The old certificate ends with the renewal once the new one is used; go on as the renewed agent.
		conn.Close()
		conn = r.dialAs(renewed.Svid, renewKey)
	}

	authorized, err := r.authorizedEntries(conn, entry)
	checks.Need("get_authorized_entries", err)
	checks.Report("authorized_entry_is_ours", checks.Equal("id", authorized, entry))

	for name, workloadKey := range keys() {
		answer, err := svidv1.NewSVIDClient(conn).BatchNewX509SVID(r.ctx, &svidv1.BatchNewX509SVIDRequest{
			Params: []*svidv1.NewX509SVIDParams{{EntryId: entry, Csr: mustCSR(workloadKey, spiffeid.ID{})}}})
		if err == nil && answer.Results[0].Status.Code != 0 {
			err = errors.New(answer.Results[0].Status.Message)
		}
		if checks.Report("workload_"+name+"_signed", err) {
			r.keep("workload_"+name, answer.Results[0].Svid, spiffeid.RequireFromPath(r.trustDomain, "/shaped"), workloadKey)
		}
	}
	answer, err := svidv1.NewSVIDClient(conn).BatchNewX509SVID(r.ctx, &svidv1.BatchNewX509SVIDRequest{
		Params: []*svidv1.NewX509SVIDParams{{EntryId: "not-an-entry", Csr: mustCSR(key, spiffeid.ID{})}}})
	if err == nil {
		err = checks.Equal("status of a foreign entry", codes.Code(answer.Results[0].Status.Code), codes.NotFound)
	}
	checks.Report("foreign_entry_not_found", err)

	jwt, err := svidv1.NewSVIDClient(conn).NewJWTSVID(r.ctx, &svidv1.NewJWTSVIDRequest{EntryId: entry, Audience: []string{audience}})
	if err == nil {
		_, err = jwtsvid.ParseAndValidate(jwt.Svid.Token, r.bundle, []string{audience})
	}
	checks.Report("workload_jwt_validates", err)

	// An agent is no administrator.
	_, err = svidv1.NewSVIDClient(conn).MintX509SVID(r.ctx, &svidv1.MintX509SVIDRequest{Csr: mustCSR(key, id)})
	checks.Report("agent_may_not_mint", refused(err, codes.PermissionDenied))
}

func (r *run) attest(token string, key crypto.Signer) (*types.X509SVID, error) {
	conn, err := grpc.NewClient(os.Getenv("INTEROP_SERVER"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, VerifyPeerCertificate: r.verifyServer})))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := agentv1.NewAgentClient(conn).AttestAgent(r.ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
		Params: &agentv1.AgentX509SVIDParams{Csr: mustCSR(key, spiffeid.ID{})},
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the server has answered already, and Recv says what
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	result := answer.GetResult()
	if result == nil {
		return nil, fmt.Errorf("expected the result, got %v", answer)
	}
	if result.Reattestable {
		return nil, errors.New("a join token agent is said to be reattestable")
	}
	return result.Svid, nil
}

func (r *run) verifyServer(raw [][]byte, _ [][]*x509.Certificate) error {
	id, _, err := x509svid.ParseAndVerify(raw, r.bundle)
	if err != nil {
		return err
	}
	return checks.Equal("server ID", id, spiffeid.RequireFromPath(r.trustDomain, "/spire/server"))
}

func (r *run) dialAs(svid *types.X509SVID, key crypto.PrivateKey) *grpc.ClientConn {
	conn, err := grpc.NewClient(os.Getenv("INTEROP_SERVER"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		InsecureSkipVerify: true, VerifyPeerCertificate: r.verifyServer,
		Certificates: []tls.Certificate{{Certificate: svid.CertChain, PrivateKey: key}}})))
	checks.Need("dial_as_agent", err)
	return conn
}

func (r *run) entryFor(admin *grpc.ClientConn, agent spiffeid.ID) string {
	answer, err := entryv1.NewEntryClient(admin).BatchCreateEntry(r.ctx, &entryv1.BatchCreateEntryRequest{Entries: []*types.Entry{{
		SpiffeId: protoID(spiffeid.RequireFromPath(r.trustDomain, "/shaped")), ParentId: protoID(agent),
		Selectors:   []*types.Selector{{Type: "unix", Value: "uid:424242"}},
		DnsNames:    []string{"first.example.org", "*.second.example.org"},
		X509SvidTtl: 300, JwtSvidTtl: 120,
	}}})
	if err == nil && answer.Results[0].Status.Code != 0 {
		err = errors.New(answer.Results[0].Status.Message)
	}
	checks.Need("create_entry", err)
	return answer.Results[0].Entry.Id
}

// authorizedEntries waits for the entry, since a server may serve agents from a cache, and returns the id it found.
func (r *run) authorizedEntries(conn *grpc.ClientConn, want string) (string, error) {
	var seen []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		answer, err := entryv1.NewEntryClient(conn).GetAuthorizedEntries(r.ctx, &entryv1.GetAuthorizedEntriesRequest{})
		if err != nil {
			return "", err
		}
		seen = nil
		for _, entry := range answer.Entries {
			if entry.Id == want {
				return want, nil
			}
			seen = append(seen, entry.Id)
		}
	}
	return "", fmt.Errorf("entry %s is not among %v", want, seen)
}

// keep writes a chain (and key) for the other judges and has go-spiffe judge it.
func (r *run) keep(name string, svid *types.X509SVID, want spiffeid.ID, key crypto.PrivateKey) []*x509.Certificate {
	var pemBytes []byte
	var chain []*x509.Certificate
	for _, raw := range svid.CertChain {
		pemBytes = append(pemBytes, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})...)
		certificate, err := x509.ParseCertificate(raw)
		if !checks.Report(name+"_parses", err) {
			return nil
		}
		chain = append(chain, certificate)
	}
	r.write(name+".pem", pemBytes)

	id, _, err := x509svid.Verify(chain, r.bundle)
	if err == nil {
		err = checks.Equal("SPIFFE ID", id, want)
	}
	if err == nil && svid.Id.Path != want.Path() {
		err = fmt.Errorf("the message says path %s", svid.Id.Path)
	}
	checks.Report(name+"_go_spiffe_verify", err)

	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err == nil {
			keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			r.write(name+".key", keyPEM)
			_, err = x509svid.Parse(pemBytes, keyPEM)
		}
		checks.Report(name+"_go_spiffe_parse", err)
	}
	return chain
}

func (r *run) write(name string, content []byte) {
	if err := os.WriteFile(filepath.Join(r.out, name), content, 0o600); err != nil {
		checks.Need("write_"+name, err)
	}
}

func refused(err error, want ...codes.Code) error {
	if err == nil {
		return errors.New("it was accepted")
	}
	for _, code := range want {
		if status.Code(err) == code {
			return nil
		}
	}
	return fmt.Errorf("refused with %v, want one of %v", err, want)
}

func protoID(id spiffeid.ID) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: id.TrustDomain().Name(), Path: id.Path()}
}

func keys() map[string]crypto.Signer {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	checks.Need("rsa_key", err)
	return map[string]crypto.Signer{"p256": mustKey(elliptic.P256()), "p384": mustKey(elliptic.P384()), "rsa2048": rsaKey}
}

func mustKey(curve elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		checks.Need("ec_key", err)
	}
	return key
}

// mustCSR asks for id, or for nothing when the server decides (entries and agents).
func mustCSR(key crypto.Signer, id spiffeid.ID, dnsNames ...string) []byte {
	template := &x509.CertificateRequest{DNSNames: dnsNames}
	if !id.IsZero() {
		template.URIs = []*url.URL{id.URL()}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		checks.Need("csr", err)
	}
	return csr
}
