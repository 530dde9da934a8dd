"""Our server federates with a SPIRE server of another trust domain: its bundle, from its own endpoint, into a workload's hand."""

import json

from harness import toolchain
from harness.process import free_port, run as run_program, wait_until
from harness.results import require
from harness.system import NODE_ID, TRUST_DOMAIN, SignetAgent, SignetServer, SpireServer

_PARTNER = "partner.org"


def run(results, context):
    if context.server != "signet" or context.agent != "signet":
        results.skip("all", "it is our server and agent that are tried")
        return
    folder = context.folder("federation")
    port = free_port()
    partner = SpireServer(folder / "partner", trust_domain=_PARTNER, bundle_port=port)
    server = SignetServer(folder / "s")
    agent = SignetAgent(folder / "a", server, token=server.cli.join_token(NODE_ID))
    try:
        checks(results, context, folder, port, partner, server, agent)
    finally:
        for daemon in (agent, server, partner):
            daemon.stop()


def checks(results, context, folder, port, partner, server, agent):
    url = f"https://127.0.0.1:{port}"
    document = folder / "partner.json"
    document.write_text(partner.cli.bundle_spiffe())
    spiffe = ["--bundle-endpoint-url", url, "--bundle-endpoint-profile", "https_spiffe", "--endpoint-spiffe-id"]

    def stored():
        return server.cli.json("federation", "show", _PARTNER)["trust_domain_bundle"]

    def held():
        """The partner's certificates that a workload is given."""
        out = folder / "held"
        run_program([toolchain.signet() / "signet", "svid", "fetch", "--socket", agent.workload_socket, "--write", out], check=False)
        return "".join(p.read_text() for p in out.glob("federated_bundle.*.pem"))

    with results.check("entry_waits_for_its_partner"):
        server.cli.call("entry", "create", "--parent-id", NODE_ID, "--spiffe-id", f"spiffe://{TRUST_DOMAIN}/w", "--selector", context.selector,
                        "--federates-with", _PARTNER)
        wait_until("an SVID", agent.serves, daemons=[agent.daemon])
        require(held() == "", "a bundle of nobody")
    with results.check("another_id_is_refused"):
        server.cli.call("federation", "create", _PARTNER, *spiffe, f"spiffe://{_PARTNER}/other", "--bundle", document)
        answer = server.cli.call("federation", "refresh", _PARTNER, check=False)
        require(answer.returncode == 1 and f"it is spiffe://{_PARTNER}/spire/server" in answer.stderr, f"{answer.stderr}")
    with results.check("the_right_one_is_fetched"):
        server.cli.call("federation", "update", _PARTNER, *spiffe, f"spiffe://{_PARTNER}/spire/server")
        server.cli.call("federation", "refresh", _PARTNER)
        require(int(stored()["refresh_hint"]) == 60, f"not the endpoint's document: hint {stored()['refresh_hint']}")
    with results.check("the_workload_holds_it"):
        wait_until("the partner's bundle", lambda: held().strip() == partner.cli.bundle_pem().strip(), daemons=[agent.daemon])
    with results.check("a_rotation_is_followed"):
        before = len(json.loads(partner.cli.bundle_spiffe())["keys"])
        partner.cli.call("localauthority", "x509", "prepare")
        wait_until("a new key", lambda: len(json.loads(partner.cli.bundle_spiffe())["keys"]) > before)
        # Its endpoint asks for a poll each minute, so we poll each quarter of one: no refresh by hand.
        wait_until("both roots in the workload's hand", lambda: held().count("BEGIN CERTIFICATE") == 2, timeout=60, daemons=[server.daemon, agent.daemon])
    with results.check("the_partner_away_costs_nothing"):
        partner.stop()
        answer = server.cli.call("federation", "refresh", _PARTNER, check=False)
        require(answer.returncode == 1 and url in answer.stderr, f"{answer.stderr}")
        require(held().count("BEGIN CERTIFICATE") == 2, "the bundle is gone")
    with results.check("a_stranger_with_the_right_id_is_refused"):
        # Another SPIRE of the same name on the same port: right in all but its key.
        stranger = SpireServer(folder / "stranger", trust_domain=_PARTNER, bundle_port=port)
        try:
            answer = wait_until("an answer of the stranger", lambda: (a := server.cli.call("federation", "refresh", _PARTNER, check=False)) and
                                "refused" not in a.stderr.lower() and a)
            require(answer.returncode == 1, "its bundle was taken")
            require(held().count("BEGIN CERTIFICATE") == 2, "the bundle has changed")
        finally:
            stranger.stop()
