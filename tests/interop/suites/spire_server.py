"""The agent under test against SPIRE's server: it attests by join token and x509pop, polls, and serves."""

from harness.process import wait_until
from harness.results import require
from harness.system import AGENTS, NODE_ID, TRUST_DOMAIN, SpireServer, X509Pop
from suites import clients
from suites.spire_agent import follow_changes, rsa_chain
from suites.workload import ids

_BASE = f"spiffe://{TRUST_DOMAIN}"


def run(results, context):
    folder = context.folder("sserver")
    pop = X509Pop(folder / "pop")
    server = SpireServer(folder / "s", x509_pop=pop)
    make = AGENTS[context.agent]
    try:
        with results.check("join_token_attests", abort=True):
            agent = make(folder / "join", server, token=server.cli.join_token(NODE_ID))
        try:
            with results.check("agent_is_listed"):
                agents = server.cli.json("agent", "list")["agents"]
                require([a["attestation_type"] for a in agents] == ["join_token"], f"{agents}")
            follow_changes(results, server, agent, NODE_ID, "join_token")
        finally:
            agent.stop()

        with results.check("x509pop_rsa_below_an_intermediate"):
            rsa_chain(make, folder, server, pop)
        with results.check("x509pop_attests", abort=True):
            agent = make(folder / "pop-agent", server, node_cert=(pop.cert, pop.key))
        try:
            with results.check("x509pop_serves_an_svid"):
                server.cli.create_entry(f"{_BASE}/pop-node", ["x509pop:subject:cn:interop-node"], parent_id=f"{_BASE}/spire/server")
                server.cli.create_entry(f"{_BASE}/pop", [context.selector], parent_id=f"{_BASE}/pop-node")
                wait_until("SVID of the entry", lambda: ids(agent) == {"/pop"}, daemons=[agent.daemon, server.daemon])
            server.stop()
            with results.check("serves_while_the_server_is_away"):
                require(ids(agent) == {"/pop"}, "nothing served")
            if context.agent == "signet":
                with results.check("restarts_while_the_server_is_away"):  # SPIRE's agent does not
                    agent.stop()
                    agent.start()
                    wait_until("the cached SVID", lambda: ids(agent) == {"/pop"}, timeout=5, daemons=[agent.daemon])
        finally:
            agent.stop()
    finally:
        server.stop()
    clients.mixed(results, context, "spire", context.agent)
