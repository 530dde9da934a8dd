"""Servers and agents of both makes behind one shape, so that every suite runs against Signet, SPIRE or a mixture.

A server has: address, admin_socket, trust_domain, bundle_pem(), join_token(), create_entry(), update_entry(),
delete_entry(). An agent has: workload_socket, spiffe_id(), stop(). Neither is shared between threads.
"""

import json
import os
import secrets
import urllib.error
import urllib.request

from . import toolchain
from .process import Daemon, accepts, free_port, run, wait_until
from .results import Failure, require

TRUST_DOMAIN = "example.org"
NODE_ID = f"spiffe://{TRUST_DOMAIN}/node"
WORKLOAD_ID = f"spiffe://{TRUST_DOMAIN}/workload"
# Short enough to see rotations in seconds, long enough that a slow machine never serves an expired one.
WORKLOAD_TTL = 30
MY_UID = f"unix:uid:{os.getuid()}"


class X509Pop:
    """A certificate authority for the x509pop attestors and two nodes' certificates, made by openssl.

    `cert` and `key`: an EC leaf straight under the authority. `rsa_cert` and `rsa_key`: an RSA leaf below an
    intermediate, which follows it in the file; another answer to the challenge and another path to verify.
    """

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca, ca_key = folder / "ca.pem", self._key("ca", "ec")
        run(["openssl", "req", "-x509", "-new", "-key", ca_key, "-days", "2", "-subj", "/CN=interop pop ca", "-out", self.ca])
        leaf = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
        self.key = self._key("leaf", "ec")
        self.cert = self._issue("leaf", self.key, "interop-node", self.ca, ca_key, leaf)
        middle_key = self._key("middle", "ec")
        middle = self._issue("middle", middle_key, "interop pop intermediate", self.ca, ca_key,
                             "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
        self.rsa_key = self._key("rsa", "rsa")
        self.rsa_cert = self._issue("rsa", self.rsa_key, "interop-rsa-node", middle, middle_key, leaf)
        self.rsa_cert.write_text(self.rsa_cert.read_text() + middle.read_text())

    def _key(self, name, kind):
        path = self._folder / f"{name}.key"
        options = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if kind == "rsa" else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        run(["openssl", "genpkey", "-algorithm", *options, "-out", path])
        path.chmod(0o600)
        return path

    def _issue(self, name, key, subject, ca, ca_key, extensions):
        csr, config, cert = (self._folder / f"{name}.{end}" for end in ("csr", "ext", "pem"))
        config.write_text(extensions)
        run(["openssl", "req", "-new", "-key", key, "-subj", f"/CN={subject}", "-out", csr])
        run(["openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "1",
             "-extfile", config, "-out", cert])
        return cert


class SpireCli:
    """Administration through `spire-server`, which speaks to any server's admin socket."""

    def __init__(self, binary, socket):
        self._binary, self._socket = binary, socket

    def call(self, *args, check=True, timeout=30):
        return run([self._binary, *args, "-socketPath", self._socket], check=check, timeout=timeout)

    def json(self, *args, **kw):
        text = self.call(*args, "-output", "json", **kw).stdout
        try:
            return json.loads(text)
        except ValueError:
            raise Failure(f"spire-server {' '.join(map(str, args))} printed no JSON: {text[:200]!r}") from None

    def join_token(self, spiffe_id):
        return self.json("token", "generate", "-spiffeID", spiffe_id)["value"]

    def create_entry(self, spiffe_id, selectors, parent_id=NODE_ID, dns=(), x509_ttl=WORKLOAD_TTL, hint=""):
        args = ["-spiffeID", spiffe_id, "-parentID", parent_id, "-x509SVIDTTL", x509_ttl]
        args += [a for s in selectors for a in ("-selector", s)] + [a for d in dns for a in ("-dns", d)]
        args += ["-hint", hint] if hint else []
        return single_entry(self.json("entry", "create", *args))

    def update_entry(self, entry_id, spiffe_id, selectors, parent_id=NODE_ID, dns=(), x509_ttl=WORKLOAD_TTL):
        args = ["-entryID", entry_id, "-spiffeID", spiffe_id, "-parentID", parent_id, "-x509SVIDTTL", x509_ttl]
        args += [a for s in selectors for a in ("-selector", s)] + [a for d in dns for a in ("-dns", d)]
        return single_entry(self.json("entry", "update", *args))

    def delete_entry(self, entry_id):
        self.call("entry", "delete", "-entryID", entry_id)

    def bundle_pem(self):
        return self.call("bundle", "show", "-format", "pem").stdout

    def bundle_spiffe(self):
        return self.call("bundle", "show", "-format", "spiffe").stdout


class SignetCli:
    """Administration through `signet`."""

    def __init__(self, binary, socket):
        self._binary, self._socket = binary, socket

    def argv(self, *args):
        return [self._binary, *args, "--socket", self._socket]

    def call(self, *args, check=True, timeout=30):
        return run(self.argv(*args), check=check, timeout=timeout)

    def json(self, *args, **kw):
        return json.loads(self.call(*args, "--output", "json", **kw).stdout)

    def join_token(self, spiffe_id):
        return self.json("token", "generate", "--spiffe-id", spiffe_id)["value"]

    @staticmethod
    def _fields(spiffe_id, selectors, parent_id, dns, x509_ttl):
        args = ["--spiffe-id", spiffe_id, "--parent-id", parent_id, "--x509-ttl", f"{x509_ttl}s"]
        return args + [a for s in selectors for a in ("--selector", s)] + [a for d in dns for a in ("--dns", d)]

    def create_entry(self, spiffe_id, selectors, parent_id=NODE_ID, dns=(), x509_ttl=WORKLOAD_TTL, hint=""):
        args = self._fields(spiffe_id, selectors, parent_id, dns, x509_ttl) + (["--hint", hint] if hint else [])
        return single_entry(self.json("entry", "create", *args))

    def update_entry(self, entry_id, spiffe_id, selectors, parent_id=NODE_ID, dns=(), x509_ttl=WORKLOAD_TTL):
        args = self._fields(spiffe_id, selectors, parent_id, dns, x509_ttl)
        return single_entry(self.json("entry", "update", "--id", entry_id, *args))

    def delete_entry(self, entry_id):
        self.call("entry", "delete", "--id", entry_id)

    def bundle_pem(self):
        return self.call("bundle", "show", "--format", "pem").stdout

    def bundle_spiffe(self):
        return self.call("bundle", "show", "--format", "spiffe").stdout


def single_entry(answer):
    """The one entry of a batch answer, whose status must be OK; SPIRE and Signet print the same protobuf JSON."""
    results = answer["results"]
    require(len(results) == 1, f"expected one result, got {answer}")
    require(not results[0]["status"].get("code"), f"entry refused: {results[0]['status']}")
    return results[0]["entry"]


class SpireServer:
    """`bundle_port`: it serves its bundle there, by the profile https_spiffe."""

    make = "spire"

    def __init__(self, folder, x509_pop=None, ca_ttl="24h", ca_key_type="ec-p256", trust_domain=TRUST_DOMAIN, bundle_port=None):
        programs = toolchain.spire()
        folder.mkdir(parents=True, exist_ok=True)
        self.admin_socket = folder / "admin.sock"
        self.port = free_port()
        self.cli = SpireCli(programs / "spire-server", self.admin_socket)
        pop = f'NodeAttestor "x509pop" {{ plugin_data {{ ca_bundle_path = "{x509_pop.ca}" }} }}' if x509_pop else ""
        federation = (f'federation {{ bundle_endpoint {{ address = "127.0.0.1" port = {bundle_port} refresh_hint = "1m" '
                      'profile "https_spiffe" {} } }') if bundle_port else ""
        config = folder / "server.conf"
        config.write_text(f"""
server {{
  bind_address = "127.0.0.1"
  bind_port = "{self.port}"
  socket_path = "{self.admin_socket}"
  trust_domain = "{trust_domain}"
  data_dir = "{folder}"
  log_level = "DEBUG"
  ca_ttl = "{ca_ttl}"
  ca_key_type = "{ca_key_type}"
  default_jwt_svid_ttl = "5m"
  jwt_issuer = "https://id.example.org/spiffe"
  experimental {{ cache_reload_interval = "1s" }}
  {federation}
}}
plugins {{
  DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{folder}/server.sqlite3" }} }}
  KeyManager "disk" {{ plugin_data {{ keys_path = "{folder}/keys.json" }} }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  {pop}
}}
""")
        self._command = ("spire-server", [programs / "spire-server", "run", "-config", config], folder / "server.log")
        self.start()

    def start(self):
        """Starts it, the first time or again on what it has on disk, and waits until it is healthy."""
        self.daemon = Daemon(*self._command)
        wait_until("healthy spire-server",
                   lambda: accepts(self.admin_socket) and self.cli.call("healthcheck", check=False).returncode == 0,
                   daemons=[self.daemon])

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        return self.daemon.stop()


class SignetServer:
    """`token_service`: also serves tokens at `issuer`; a dict of client ids that prove themselves by the keys of a file."""

    make = "signet"

    def __init__(self, folder, x509_pop=None, ca_ttl="24h", ca_key_type="ec-p256", token_service=None):
        programs = toolchain.signet()
        folder.mkdir(parents=True, exist_ok=True)
        self.admin_socket = folder / "run" / "admin.sock"
        self.port, self._http = free_port(), free_port()
        if (programs / "signet").exists():
            self.cli = SignetCli(programs / "signet", self.admin_socket)
        else:
            self.cli = SpireCli(toolchain.spire() / "spire-server", self.admin_socket)
        pop = f"\n  x509_pop: {{ca_bundle_paths: [{x509_pop.ca}]}}" if x509_pop else ""
        tokens, jwt_issuer = "", "https://id.example.org/spiffe"
        if token_service is not None:
            port = free_port()
            self.issuer = f"https://localhost:{port}"
            jwt_issuer = f"{self.issuer}/spiffe"
            clients = ", ".join(f"{{client_id: \"{name}\", jwks_path: {path}}}" for name, path in token_service.items())
            tokens = f"token_service: {{listen: 127.0.0.1:{port}, issuer: {self.issuer}, clients: [{clients}]}}"
        config = folder / "server.yaml"
        config.write_text(f"""
trust_domain: {TRUST_DOMAIN}
data_dir: {folder}/data
listen: 127.0.0.1:{self.port}
admin_socket: {self.admin_socket}
http: {{listen: 127.0.0.1:{self._http}}}
log: {{level: debug, format: text}}
ca: {{ttl: {ca_ttl}, key_type: {ca_key_type}}}
jwt_issuer: {jwt_issuer}
datastore: {{sqlite: {{path: server.db}}}}
key_manager: {{disk: {{path: keys}}}}
node_attestors:
  join_token: {{}}{pop}
{tokens}
""")
        self._command = ("signet-server", [programs / "signet-server", "run", "--config", config], folder / "server.log")
        self.start()

    def start(self):
        """Starts it, the first time or again on what it has on disk, and waits until it is ready."""
        self.daemon = Daemon(*self._command)
        wait_until("ready signet-server", lambda: accepts(self.admin_socket) and http_ok(self._http, "/readyz"),
                   daemons=[self.daemon])

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        return self.daemon.stop()


class SpireAgent:
    make = "spire"

    def __init__(self, folder, server, token=None, node_cert=None):
        programs = toolchain.spire()
        folder.mkdir(parents=True, exist_ok=True)
        self.workload_socket = folder / "w" / "api.sock"
        self.admin_socket = folder / "admin" / "admin.sock"
        bundle = folder / "bundle.pem"
        bundle.write_text(server.cli.bundle_pem())
        if node_cert:
            attestor = (f'NodeAttestor "x509pop" {{ plugin_data {{ certificate_path = "{node_cert[0]}" '
                        f'private_key_path = "{node_cert[1]}" }} }}')
        else:
            attestor = 'NodeAttestor "join_token" { plugin_data {} }'
        config = folder / "agent.conf"
        config.write_text(f"""
agent {{
  data_dir = "{folder}"
  log_level = "DEBUG"
  server_address = "127.0.0.1"
  server_port = "{server.port}"
  socket_path = "{self.workload_socket}"
  admin_socket_path = "{self.admin_socket}"
  trust_bundle_path = "{bundle}"
  trust_domain = "{TRUST_DOMAIN}"
  {f'join_token = "{token}"' if token else ""}
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  KeyManager "memory" {{ plugin_data {{}} }}
  {attestor}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
""")
        self.daemon = Daemon("spire-agent", [programs / "spire-agent", "run", "-config", config], folder / "agent.log")
        wait_until("healthy spire-agent",
                   lambda: accepts(self.workload_socket) and run(
                       [programs / "spire-agent", "healthcheck", "-socketPath", self.workload_socket],
                       check=False).returncode == 0,
                   daemons=[self.daemon, server.daemon])

    def serves(self):
        """Whether a process of this user is given an X.509-SVID."""
        return run([toolchain.spire() / "spire-agent", "api", "fetch", "x509", "-socketPath", self.workload_socket],
                   check=False).returncode == 0

    def stop(self):
        return self.daemon.stop()


class SignetAgent:
    """Fronts the token service at `token_socket` when the server has one."""

    make = "signet"

    def __init__(self, folder, server, token=None, node_cert=None):
        programs = toolchain.signet()
        folder.mkdir(parents=True, exist_ok=True)
        self.workload_socket = folder / "w" / "api.sock"
        self.admin_socket = folder / "admin" / "admin.sock"
        self.token_socket = folder / "w" / "token.sock"
        front = f"token_service: {{socket: {self.token_socket}}}" if hasattr(server, "issuer") else ""
        self._http = free_port()
        bundle = folder / "bundle.pem"
        bundle.write_text(server.cli.bundle_pem())
        if node_cert:
            attestor = f"{{x509_pop: {{certificate_path: {node_cert[0]}, private_key_path: {node_cert[1]}}}}}"
        else:
            token_file = folder / "token"
            token_file.touch(0o600)
            token_file.write_text(token + "\n")
            attestor = f"{{join_token: {{token_file: {token_file}}}}}"
        config = folder / "agent.yaml"
        config.write_text(f"""
trust_domain: {TRUST_DOMAIN}
data_dir: {folder}/data
server_address: {server.address}
workload_socket: {self.workload_socket}
admin_socket: {self.admin_socket}
http: {{listen: 127.0.0.1:{self._http}}}
log: {{level: debug, format: text}}
bootstrap: {{trust_bundle_path: {bundle}}}
node_attestor: {attestor}
workload_attestors: {{unix: {{discover_path: true}}}}
{front}
""")
        self._command = ("signet-agent", [programs / "signet-agent", "run", "--config", config], folder / "agent.log")
        self.start()
        wait_until("ready signet-agent", lambda: http_ok(self._http, "/readyz"), daemons=[self.daemon, server.daemon])

    def start(self):
        """Starts it, the first time or again on what it has on disk, and waits for its socket."""
        self.daemon = Daemon(*self._command)
        wait_until("the workload socket", lambda: accepts(self.workload_socket), daemons=[self.daemon])

    def serves(self):
        """Whether a process of this user is given an X.509-SVID."""
        if not (toolchain.signet() / "signet").exists():
            return SpireAgent.serves(self)
        return run([toolchain.signet() / "signet", "svid", "fetch", "--socket", self.workload_socket], check=False).returncode == 0

    def stop(self):
        return self.daemon.stop()


SERVERS = {"spire": SpireServer, "signet": SignetServer}
AGENTS = {"spire": SpireAgent, "signet": SignetAgent}


class System:
    """A server and an agent attested by join token, with one entry for processes of this user unless told otherwise.

    `entry` is the workload's: WORKLOAD_ID, two DNS names, a hint and `x509_ttl`.
    """

    def __init__(self, folder, server_make, agent_make, ca_ttl="24h", x509_ttl=WORKLOAD_TTL, with_entry=True):
        folder = folder / f"{server_make[:2]}-{agent_make[:2]}-{secrets.token_hex(2)}"
        self.server = SERVERS[server_make](folder / "s", ca_ttl=ca_ttl)
        self.agent = AGENTS[agent_make](folder / "a", self.server, token=self.server.cli.join_token(NODE_ID))
        if with_entry:
            self.add_entry(x509_ttl)

    def add_entry(self, x509_ttl=WORKLOAD_TTL):
        self.entry = self.server.cli.create_entry(
            WORKLOAD_ID, [MY_UID], dns=["workload.example.org", "workload"], hint="internal", x509_ttl=x509_ttl)
        # SPIRE tells workloads "no identity issued" until its agent has polled, and not every client asks again.
        wait_until("SVID of the shared entry", self.agent.serves, daemons=[self.agent.daemon, self.server.daemon])

    def environment(self):
        """What a client program of any language is told."""
        return {
            "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.agent.workload_socket}",
            "INTEROP_SPIFFE_ID": WORKLOAD_ID,
            "INTEROP_TRUST_DOMAIN": TRUST_DOMAIN,
            "INTEROP_HINT": "internal",
        }

    def stop(self):
        self.agent.stop()
        self.server.stop()


def http_ok(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.status == 200
    except urllib.error.HTTPError as error:
        raise Failure(f"{path} answered {error.code}: {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise Failure(f"{path}: {error}") from None
