// parity CASES: plays a table of RPCs against one server or agent and prints what it answers, for comparison with
// another make.
// Each line of CASES is `name caller Service.Method {request as protobuf JSON}`, optionally followed by
// `=> VARIABLE path.in.answer`; `#` starts a comment. Callers are local (admin socket), anonymous (TLS without a
// certificate) and agent (one attested by join token); with a `!` after it the call is repeated until it answers something,
// for up to ten seconds. In requests $VARIABLE stands for what an earlier answer gave,
// $AGENT for the agent's path, $CSR(uri,...) for a fresh CSR with these URI SANs, in base64.
// With INTEROP_WORKLOAD_SOCKET the callers are workload (Workload API, with the security header) and bare (without).
// Without it INTEROP_ADMIN_SOCKET and INTEROP_SERVER name the server, and after the table every method of every server
// API is called with an empty request by every caller: the authorisation table.
// Prints "CASE name {json}" lines and "CASES DONE".
package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	_ "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	_ "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("CASES DONE")
}

type player struct {
	callers   map[string]*grpc.ClientConn
	methods   map[string]protoreflect.MethodDescriptor // by "Service.Method"
	variables map[string]string
}

func run() error {
	p := &player{callers: map[string]*grpc.ClientConn{}, methods: map[string]protoreflect.MethodDescriptor{}, variables: map[string]string{}}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "spire.api.server.") || file.Services().ByName("SpiffeWorkloadAPI") != nil {
			for i := range file.Services().Len() {
				service := file.Services().Get(i)
				for j := range service.Methods().Len() {
					p.methods[string(service.Name())+"."+string(service.Methods().Get(j).Name())] = service.Methods().Get(j)
				}
			}
		}
		return true
	})
	if socket := os.Getenv("INTEROP_WORKLOAD_SOCKET"); socket != "" {
		if err := p.connectWorkload(socket); err != nil {
			return err
		}
		return p.playTable(os.Args[1])
	}
	if err := p.connect(); err != nil {
		return err
	}
	if err := p.playTable(os.Args[1]); err != nil {
		return err
	}
	return p.playAuthorization()
}

func (p *player) connectWorkload(socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	p.callers["workload"], p.callers["bare"] = conn, conn
	return err
}

func (p *player) connect() error {
	var err error
	if p.callers["local"], err = grpc.NewClient("unix://"+os.Getenv("INTEROP_ADMIN_SOCKET"),
		grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return err
	}
	dial := func(certificates ...tls.Certificate) (*grpc.ClientConn, error) {
		return grpc.NewClient(os.Getenv("INTEROP_SERVER"), grpc.WithTransportCredentials(credentials.NewTLS(
			&tls.Config{InsecureSkipVerify: true, Certificates: certificates})))
	}
	if p.callers["anonymous"], err = dial(); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	svid, err := p.attest(key)
	if err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	p.variables["AGENT"] = svid.Id.Path
	p.callers["agent"], err = dial(tls.Certificate{Certificate: svid.CertChain, PrivateKey: key})
	return err
}

func (p *player) attest(key crypto.Signer) (*types.X509SVID, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := agentv1.NewAgentClient(p.callers["local"]).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 60})
	if err != nil {
		return nil, err
	}
	csr, err := newCSR(key)
	if err != nil {
		return nil, err
	}
	stream, err := agentv1.NewAgentClient(p.callers["anonymous"]).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: &agentv1.AttestAgentRequest_Params{
		Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token.Value)},
		Params: &agentv1.AgentX509SVIDParams{Csr: csr},
	}}}); err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return answer.GetResult().GetSvid(), nil
}

func newCSR(key crypto.Signer, uris ...string) ([]byte, error) {
	template := &x509.CertificateRequest{}
	for _, uri := range uris {
		parsed, err := url.Parse(uri)
		if err != nil {
			return nil, err
		}
		template.URIs = append(template.URIs, parsed)
	}
	return x509.CreateCertificateRequest(rand.Reader, template, key)
}

var (
	caseLine = regexp.MustCompile(`^(\S+)\s+(\S+)\s+(\S+)\s+(\{.*\})(?:\s*=>\s*(\S+)\s+(\S+))?\s*$`)
	csrMacro = regexp.MustCompile(`\$CSR\(([^)]*)\)`)
)

func (p *player) playTable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := caseLine.FindStringSubmatch(line)
		if parts == nil {
			return fmt.Errorf("%s:%d: not a case: %s", path, number, line)
		}
		name, caller, method, request, variable, where := parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]
		request, err = p.expand(request)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
		caller, patient := strings.CutSuffix(caller, "!")
		answer, err := p.call(caller, method, request)
		for end := time.Now().Add(10 * time.Second); patient && len(answer) == 0 && time.Now().Before(end); {
			time.Sleep(100 * time.Millisecond)
			answer, err = p.call(caller, method, request)
		}
		if errors.Is(err, errBadCase) {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
		p.print(name, answer, err)
		if variable != "" {
			p.variables[variable] = pick(answer, where)
		}
	}
	return lines.Err()
}

func (p *player) expand(request string) (string, error) {
	var failure error
	request = csrMacro.ReplaceAllStringFunc(request, func(macro string) string {
		var uris []string
		if list := csrMacro.FindStringSubmatch(macro)[1]; list != "" {
			uris = strings.Split(list, ",")
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err == nil {
			var csr []byte
			if csr, err = newCSR(key, uris...); err == nil {
				return base64.StdEncoding.EncodeToString(csr)
			}
		}
		failure = err
		return macro
	})
	for _, name := range p.names() {
		request = strings.ReplaceAll(request, "$"+name, p.variables[name])
	}
	return request, failure
}

// names gives the variables, longest first, so that no name hides another it begins with.
func (p *player) names() []string {
	var names []string
	for name := range p.variables {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return len(names[i]) > len(names[j]) })
	return names
}

var errBadCase = errors.New("bad case")

func (p *player) call(caller, name, request string) (map[string]any, error) {
	conn, method := p.callers[caller], p.methods[name]
	if conn == nil || method == nil {
		return nil, fmt.Errorf("%w: caller %q, method %q", errBadCase, caller, name)
	}
	in, err := newMessage(method.Input())
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		return nil, fmt.Errorf("%w: %v", errBadCase, err)
	}
	out, err := newMessage(method.Output())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if caller == "workload" {
		ctx = metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
	}
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if method.IsStreamingClient() || method.IsStreamingServer() {
		err = oneStep(ctx, conn, path, in, out)
	} else {
		err = conn.Invoke(ctx, path, in, out)
	}
	if err != nil {
		return nil, err
	}
	text, err := protojson.Marshal(out)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	return answer, json.Unmarshal(text, &answer)
}

func newMessage(descriptor protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// oneStep sends one message on a stream, half-closes it and takes the first answer.
func oneStep(ctx context.Context, conn *grpc.ClientConn, path string, in, out proto.Message) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	err = stream.RecvMsg(out)
	if errors.Is(err, io.EOF) {
		return status.Error(codes.OK, "")
	}
	return err
}

func (p *player) playAuthorization() error {
	var names []string
	for name := range p.methods {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, caller := range []string{"anonymous", "agent", "local"} {
		for _, name := range names {
			_, err := p.call(caller, name, "{}")
			fmt.Printf("CASE may/%s/%s {\"code\":%q}\n", caller, name, status.Code(err))
		}
	}
	return nil
}

// print shows the code and the answer in a form two servers can agree on.
func (p *player) print(name string, answer map[string]any, err error) {
	line, failure := json.Marshal(map[string]any{
		"code": status.Code(err).String(), "message": status.Convert(err).Message(), "answer": p.normal("", answer)})
	if failure != nil {
		line = []byte(fmt.Sprintf("{\"code\":\"unprintable: %v\"}", failure))
	}
	fmt.Printf("CASE %s %s\n", name, line)
}

// Fields whose value no two servers share; only that they are set counts.
var volatile = map[string]bool{
	"id": true, "createdAt": true, "expiresAt": true, "issuedAt": true, "certChain": true, "token": true, "value": true,
	"x509svidSerialNumber": true, "x509svidExpiresAt": true, "nextPageToken": true, "asn1": true, "publicKey": true,
	"keyId": true, "message": true, "svidChain": true, "uptime": true, "agentVersion": true, "sequenceNumber": true,
	"svid": true, "x509Svid": true, "x509SvidKey": true, "bundle": true, "spiffe://example.org": true, "iat": true, "exp": true,
}

// normal drops what differs between any two runs and sorts what has no order of its own.
func (p *player) normal(field string, value any) any {
	switch typed := value.(type) {
	case map[string]any:
		result := map[string]any{}
		for key, inner := range typed {
			_, isText := inner.(string)
			_, isNumber := inner.(float64)
			if volatile[key] && (isText || isNumber || key == "certChain" || key == "svidChain") && !(field == "selectors" && key == "value") {
				inner = "(set)"
			}
			result[key] = p.normal(key, inner)
		}
		return result
	case []any:
		result := []any{}
		for _, inner := range typed {
			result = append(result, p.normal(field, inner))
		}
		if field == "selectors" || field == "entries" || field == "agents" || field == "entryRevisions" {
			sort.Slice(result, func(i, j int) bool { return text(result[i]) < text(result[j]) })
		}
		return result
	case string:
		for _, name := range p.names() {
			if v := p.variables[name]; v != "" && len(v) > 8 {
				typed = strings.ReplaceAll(typed, v, "$"+name)
			}
		}
		return typed
	}
	return value
}

func text(value any) string {
	encoded, _ := json.Marshal(value)
	return string(encoded)
}

// pick walks "results.0.entry.id" down an answer; what is not there is "".
func pick(answer any, path string) string {
	for _, step := range strings.Split(path, ".") {
		switch typed := answer.(type) {
		case map[string]any:
			answer = typed[step]
		case []any:
			var index int
			if _, err := fmt.Sscan(step, &index); err != nil || index >= len(typed) {
				return ""
			}
			answer = typed[index]
		}
	}
	found, _ := answer.(string)
	return found
}
