"""SPIRE's own `spire-agent` commands against the workload socket of the agent under test."""

import json

from harness import process, toolchain
from harness.process import Daemon, wait_until
from harness.results import require
from harness.system import WORKLOAD_ID


def run(results, context):
    binary = toolchain.spire() / "spire-agent"
    system = context.system()
    out = context.folder("agentcli")

    def call(*arguments, check=True):
        return process.run([binary, *arguments, "-socketPath", system.agent.workload_socket], check=check)

    with results.check("healthcheck"):
        call("healthcheck")
    with results.check("api_fetch_x509"):
        text = call("api", "fetch", "x509").stdout
        require("Received 1 svid" in text and WORKLOAD_ID in text, text)
    with results.check("api_fetch_x509_write"):
        call("api", "fetch", "x509", "-silent", "-write", out)
        process.run(["openssl", "verify", "-x509_strict", "-CAfile", out / "bundle.0.pem", out / "svid.0.pem"])
    with results.check("api_fetch_x509_json"):
        svids = json.loads(call("api", "fetch", "x509", "-output", "json").stdout)["svids"]
        require([s["spiffe_id"] for s in svids] == [WORKLOAD_ID] and svids[0]["hint"] == "internal", f"{svids[0]['spiffe_id']}")

    token = ""
    with results.check("api_fetch_jwt", abort=True):
        answers = json.loads(call("api", "fetch", "jwt", "-audience", "cli-audience", "-output", "json").stdout)
        token = answers[0]["svids"][0]["svid"]
        require(answers[0]["svids"][0]["spiffe_id"] == WORKLOAD_ID, f"{answers}")
    with results.check("api_fetch_jwt_with_subject"):
        require(WORKLOAD_ID in call("api", "fetch", "jwt", "-audience", "a,b", "-spiffeID", WORKLOAD_ID).stdout, "no such ID")
    with results.check("api_validate_jwt"):
        text = call("api", "validate", "jwt", "-audience", "cli-audience", "-svid", token).stdout
        require("SVID is valid" in text and WORKLOAD_ID in text, text)
    with results.check("api_validate_jwt_wrong_audience_refused"):
        require(call("api", "validate", "jwt", "-audience", "other", "-svid", token, check=False).returncode != 0, "it was accepted")
    with results.check("api_watch_sees_a_rotation"):
        watch(binary, system, out / "watch.log")


def watch(binary, system, log):
    """The CLI prints one block per update; the second must come unasked."""
    child = Daemon("spire-agent api watch", [binary, "api", "watch", "-socketPath", system.agent.workload_socket], log)
    try:
        wait_until("second update", lambda: log.read_text().count("Received 1 svid") >= 2, timeout=60, daemons=[child])
    finally:
        child.stop()
