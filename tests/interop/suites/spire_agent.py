"""SPIRE's agent against the server under test: it attests, serves, follows changes, and obeys a ban."""

import json
import re

from harness import process, toolchain
from harness.process import wait_until
from harness.results import require
from harness.system import MY_UID, NODE_ID, SERVERS, TRUST_DOMAIN, SpireAgent, SpireCli, X509Pop
from suites import clients
from suites.workload import ids, serial

_BASE = f"spiffe://{TRUST_DOMAIN}"


def run(results, context):
    toolchain.spire()
    folder = context.folder("sagent")
    pop = X509Pop(folder / "pop")
    server = SERVERS[context.server](folder / "s", x509_pop=pop)
    try:
        join_token(results, folder, server)
        x509_pop(results, folder, server, pop)
    finally:
        server.stop()
    clients.mixed(results, context, context.server, "spire")


def join_token(results, folder, server):
    token = server.cli.join_token(NODE_ID)
    with results.check("join_token_attests", abort=True):
        agent = SpireAgent(folder / "join", server, token=token)
    try:
        follow_changes(results, server, agent, NODE_ID, "join_token")
        with results.check("join_token_entry_among_1200"):
            # Above 500 entries SPIRE's agent asks for entries page by page and by id (SyncAuthorizedEntries).
            many(server, folder)
            server.cli.create_entry(f"{_BASE}/one-of-many", [MY_UID], parent_id=NODE_ID)
            wait_until("its SVID", lambda: ids(agent) == {"/one-of-many"}, timeout=60, daemons=[agent.daemon, server.daemon])
        with results.check("join_token_agent_survives_a_server_restart"):
            server.stop()
            require(ids(agent) == {"/one-of-many"}, "nothing served while the server is away")
            server.start()
            server.cli.create_entry(f"{_BASE}/after-restart", [MY_UID], parent_id=NODE_ID)
            wait_until("SVID of an entry made after it", lambda: ids(agent) == {"/one-of-many", "/after-restart"}, timeout=60,
                       daemons=[agent.daemon, server.daemon])
        with results.check("join_token_banned_agent_ends"):
            cli = spire_cli(server)
            listed = cli.json("agent", "list", "-attestationType", "join_token")["agents"]
            cli.call("agent", "ban", "-spiffeID", _BASE + listed[0]["id"]["path"])
            wait_until("the banned agent to exit", lambda: not agent.daemon.alive(), daemons=[server.daemon])
            require("banned" in agent.daemon.tail(40), f"it does not say why: {agent.daemon.tail()}")
    finally:
        agent.stop()
    with results.check("join_token_spent_is_refused"):
        second = process.Daemon("second spire-agent", second_start(folder, server, token), folder / "second.log")
        try:
            wait_until("a refusal in the agent's log", lambda: re.search(
                r"code = (InvalidArgument|PermissionDenied)", second.tail(100)))
        finally:
            second.stop()


def many(server, folder, count=1200):
    """Entries for processes that do not exist, created and counted by SPIRE's CLI in its own batches and pages."""
    path = folder / "many.json"
    path.write_text(json.dumps({"entries": [
        {"selectors": [{"type": "unix", "value": f"uid:{5000000 + n}"}], "spiffe_id": f"{_BASE}/many/{n}", "parent_id": NODE_ID}
        for n in range(count)]}))
    cli = spire_cli(server)
    cli.call("entry", "create", "-data", path, timeout=120)
    shown = {e["spiffe_id"]["path"] for e in cli.json("entry", "show", "-parentID", NODE_ID)["entries"]}
    require(len([p for p in shown if p.startswith("/many/")]) == count, f"{len(shown)} shown")


def spire_cli(server):
    return SpireCli(toolchain.spire() / "spire-server", server.admin_socket)


def rsa_chain(make, folder, server, pop):
    """An agent whose certificate has an RSA key and is signed by an intermediate attests and serves."""
    server.cli.create_entry(f"{_BASE}/rsa-node", ["x509pop:subject:cn:interop-rsa-node"], parent_id=f"{_BASE}/spire/server")
    server.cli.create_entry(f"{_BASE}/rsa", [MY_UID], parent_id=f"{_BASE}/rsa-node")
    agent = make(folder / "rsa-agent", server, node_cert=(pop.rsa_cert, pop.rsa_key))
    try:
        wait_until("SVID of the entry", lambda: ids(agent) == {"/rsa"}, daemons=[agent.daemon, server.daemon])
    finally:
        agent.stop()


def second_start(folder, server, token):
    """The command of another agent with the same token and nothing on disk."""
    config = (folder / "join" / "agent.conf").read_text().replace(str(folder / "join"), str(folder / "second"))
    (folder / "second").mkdir()
    (folder / "second" / "bundle.pem").write_text(server.cli.bundle_pem())
    (folder / "second" / "agent.conf").write_text(config)
    require(token in config, "the token is not in the configuration")
    return [toolchain.spire() / "spire-agent", "run", "-config", folder / "second" / "agent.conf"]


def x509_pop(results, folder, server, pop):
    with results.check("x509pop_attests", abort=True):
        agent = SpireAgent(folder / "pop-agent", server, node_cert=(pop.cert, pop.key))
    fingerprint = process.run(["openssl", "x509", "-noout", "-fingerprint", "-sha1", "-in", pop.cert]).stdout
    agent_id = f"{_BASE}/spire/agent/x509pop/{fingerprint.split('=')[1].strip().replace(':', '').lower()}"
    try:
        alias = f"{_BASE}/pop-node"
        with results.check("x509pop_node_alias_by_selector"):
            server.cli.create_entry(alias, ["x509pop:subject:cn:interop-node"], parent_id=f"{_BASE}/spire/server")
        follow_changes(results, server, agent, alias, "x509pop")
        with results.check("x509pop_entry_by_agent_id"):
            server.cli.create_entry(f"{_BASE}/by-agent-id", [MY_UID], parent_id=agent_id)
            wait_until("SVID of the entry", lambda: ids(agent) == {"/by-agent-id"}, daemons=[agent.daemon])
        with results.check("x509pop_evicted_agent_returns"):
            cli = spire_cli(server)
            cli.call("agent", "evict", "-spiffeID", agent_id)
            wait_until("the agent in the list again", lambda: any(
                a["attestation_type"] == "x509pop" for a in cli.json("agent", "list")["agents"]), daemons=[agent.daemon, server.daemon])
            wait_until("its SVID", lambda: "/by-agent-id" in ids(agent), daemons=[agent.daemon])
    finally:
        agent.stop()
    with results.check("x509pop_attests_again"):
        (folder / "pop-agent" / "agent-data.json").unlink(missing_ok=True)
        agent = SpireAgent(folder / "pop-agent", server, node_cert=(pop.cert, pop.key))
        try:
            wait_until("SVID after the re-attestation", lambda: "/by-agent-id" in ids(agent), daemons=[agent.daemon])
        finally:
            agent.stop()
    with results.check("x509pop_rsa_below_an_intermediate"):
        rsa_chain(SpireAgent, folder, server, pop)


def follow_changes(results, server, agent, parent_id, name):
    """An entry made, updated, rotated and deleted under a running agent."""
    daemons = [agent.daemon, server.daemon]
    with results.check(f"{name}_serves_an_svid", abort=True):
        entry = server.cli.create_entry(f"{_BASE}/{name}/one", [MY_UID], parent_id=parent_id)
        wait_until("SVID of the new entry", lambda: ids(agent) == {f"/{name}/one"}, daemons=daemons)
    with results.check(f"{name}_rotates"):
        first = serial(agent)
        wait_until("another serial number", lambda: serial(agent) not in ("", first), timeout=60, daemons=daemons)
    with results.check(f"{name}_follows_an_update"):
        server.cli.update_entry(entry["id"], f"{_BASE}/{name}/two", [MY_UID], parent_id=parent_id)
        wait_until("SVID of the updated entry", lambda: ids(agent) == {f"/{name}/two"}, daemons=daemons)
    with results.check(f"{name}_serves_two_entries"):
        second = server.cli.create_entry(f"{_BASE}/{name}/three", [MY_UID], parent_id=parent_id)
        wait_until("both SVIDs", lambda: ids(agent) == {f"/{name}/two", f"/{name}/three"}, daemons=daemons)
    with results.check(f"{name}_follows_deletions"):
        server.cli.delete_entry(second["id"])
        wait_until("one SVID less", lambda: ids(agent) == {f"/{name}/two"}, daemons=daemons)
        server.cli.delete_entry(entry["id"])
        wait_until("no SVID", lambda: ids(agent) == set(), daemons=daemons)
