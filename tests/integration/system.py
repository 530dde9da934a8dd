"""A whole Signet of real processes under one folder: for the integration tests and the benchmarks.

Everything waits on a condition with a bound; nothing sleeps blindly. Failures show the daemons' logs.
"""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import leaks


def wait_for(what, condition, seconds=20.0):
    """Returns the first true value of condition(); fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.005)


class Daemon:
    """signet-server or signet-agent with its configuration, log and health."""

    def __init__(self, binary, name, folder, configuration):
        self.binary, self.name, self.folder = binary, name, pathlib.Path(folder)
        self.config, self.log = self.folder / f"{name}.yaml", self.folder / f"{name}.log"
        self.data = self.folder / f"{name}-data"
        self.process = None
        self.config.write_text(configuration)

    def addresses(self):
        return json.loads((self.data / "addresses.json").read_text())

    def http(self, path):
        """(status, body) of the health and metrics server."""
        try:
            with urllib.request.urlopen(f"http://{self.addresses()['http']}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log_text()}")
        try:
            return self.http("/readyz")[0] == 200
        except (OSError, ValueError, KeyError):
            return False

    def spawn(self, failpoint=None, environment=None):
        with contextlib.suppress(OSError):
            (self.data / "addresses.json").unlink()
        variables = dict(os.environ, **(environment or {}))
        variables.pop("SIGNET_FAILPOINT", None)
        if failpoint:
            variables["SIGNET_FAILPOINT"] = failpoint
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([self.binary, "run", "--config", self.config], stdout=log, stderr=log, env=variables)

    def start(self, failpoint=None, environment=None):
        """Starts it and waits until it is ready; the seconds that took."""
        began = time.monotonic()
        self.spawn(failpoint, environment)
        try:
            wait_for(f"{self.name} ready", self.is_ready)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()}") from None
        return time.monotonic() - began

    def wait_exit(self, seconds=20):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds} s:\n{self.log_text()}") from None

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, how=signal.SIGTERM):
        """The exit code; None when it was not running."""
        if not self.running():
            return None
        self.process.send_signal(how)
        return self.wait_exit()

    def kill(self):
        return self.stop(signal.SIGKILL)

    def log_text(self):
        return self.log.read_text() if self.log.exists() else ""


class System:
    def __init__(self, bin_dir, folder, server_options="", agent_options="", log_level="info"):
        self.bin, self.folder = pathlib.Path(bin_dir), pathlib.Path(folder)
        self.agent_options, self.log_level = agent_options, log_level
        self.admin = self.folder / "server/admin.sock"
        self.workload = self.folder / "workload/api.sock"
        self.agent_admin = self.folder / "agent/admin.sock"
        self.bundle = self.folder / "bundle.pem"
        self.agent = None
        self.server = Daemon(self.bin / "signet-server", "server", self.folder, f"""
trust_domain: example.org
data_dir: {self.folder}/server-data
listen: 127.0.0.1:0
admin_socket: {self.admin}
http: {{listen: 127.0.0.1:0}}
log: {{level: {log_level}}}
{server_options}
""")

    def front_tokens(self):
        """Before start(): the server is a token service too, and the agent its front."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.token_issuer = f"https://localhost:{port}"
        self.token_socket = str(self.folder / "workload/token.sock")
        with open(self.server.config, "a", encoding="utf-8") as config:
            config.write(f"token_service: {{listen: 127.0.0.1:{port}, issuer: {self.token_issuer}}}\n")
        self.agent_options += f"\ntoken_service: {{socket: {self.token_socket}}}\n"

    # -- the operator ---------------------------------------------------------------------------------------------------
    def run(self, *arguments, socket=None, check=True, stdin=None, environment=None):
        command = [self.bin / "signet", *map(str, arguments)]
        if socket:
            command += ["--socket", str(socket)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, input=stdin,
                              env=dict(os.environ, **(environment or {})))
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}\n"
                                 f"{self.server.log_text()}")
        return done

    def signet(self, *arguments, **options):
        """On the server's admin socket, as JSON."""
        return json.loads(self.run(*arguments, "--output", "json", socket=self.admin, **options).stdout or "null")

    def create_entry(self, path, *selectors, parent=None, **options):
        arguments = ["entry", "create", "--parent-id", parent or self.agent_id(), "--spiffe-id", f"spiffe://example.org{path}"]
        for selector in selectors or [f"unix:uid:{os.getuid()}"]:
            arguments += ["--selector", selector]
        for key, value in options.items():
            arguments += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        created = self.signet(*arguments)
        return first(created, "entries", "results")

    def agents(self):
        return listed(self.signet("agent", "list"), "agents")

    def agent_id(self):
        return spiffe_id(self.agents()[0]["id"])

    # -- the agent ------------------------------------------------------------------------------------------------------
    def new_token(self, *arguments):
        return self.signet("token", "generate", *arguments)["value"]

    def configure_agent(self, token=None, name="agent", attestor=None):
        """Writes the bundle file and the agent's configuration; a fresh join token unless one is given."""
        self.bundle.write_text(self.run("bundle", "show", "--format", "pem", socket=self.admin).stdout)
        if attestor is None:
            attestor = f"join_token: {{token: {token or self.new_token()}}}"
        self.agent = Daemon(self.bin / "signet-agent", name, self.folder, f"""
trust_domain: example.org
data_dir: {self.folder}/{name}-data
server_address: {self.server.addresses()["grpc"]}
workload_socket: {self.workload}
admin_socket: {self.agent_admin}
http: {{listen: 127.0.0.1:0}}
log: {{level: {self.log_level}}}
bootstrap: {{trust_bundle_path: {self.bundle}}}
node_attestor: {{{attestor}}}
{self.agent_options}
""")
        return self.agent

    def pin_server_port(self):
        """A restarted server must be found again: writes the port it really has into its configuration."""
        address = self.server.addresses()["grpc"]
        self.server.config.write_text(self.server.config.read_text().replace("listen: 127.0.0.1:0\nadmin", f"listen: {address}\nadmin"))

    def start(self):
        self.server.start()
        self.pin_server_port()
        self.configure_agent()
        self.agent.start()

    # -- the workload ---------------------------------------------------------------------------------------------------
    def fetch(self, check=True, verb="fetch", *arguments):
        """svids of this process, or None when it is refused and check is off."""
        done = self.run("svid", verb, *arguments, "--output", "json", socket=self.workload, check=check)
        return listed(json.loads(done.stdout), "svids") if done.returncode == 0 else None

    def wait_svid(self, path, seconds=20):
        wanted = f"spiffe://example.org{path}"

        def held():
            for svid in self.fetch(check=False) or []:
                if svid["spiffe_id"] == wanted:
                    return svid
            return None
        return wait_for(f"an SVID {wanted}", held, seconds)

    def stop(self):
        for daemon in (self.agent, self.server):
            if daemon:
                daemon.kill()
        if found := leaks.leaks_in(self.folder):
            raise AssertionError("secrets in logs or audit files: " + "; ".join(found))


def listed(answer, key):
    return answer if isinstance(answer, list) else answer.get(key, [])


def first(answer, *keys):
    for key in keys:
        if isinstance(answer, dict) and key in answer:
            answer = answer[key]
    if isinstance(answer, list):
        answer = answer[0]
    return answer.get("entry", answer)


def spiffe_id(wire):
    return f"spiffe://{wire['trust_domain']}{wire['path']}"
