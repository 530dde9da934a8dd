"""Our `signet` against SPIRE's server and agent: an operator may keep one tool while moving."""

import json
import re
import time

from harness import process, toolchain
from harness.process import Daemon, wait_until
from harness.results import note, require
from harness.system import NODE_ID, TRUST_DOMAIN, WORKLOAD_ID, SignetCli, System
from suites.spire_cli import jwt_claims

_ID = f"spiffe://{TRUST_DOMAIN}/cli"


def run(results, context):
    if context.server == "spire" and context.agent == "spire":
        note("nothing of Signet is under test: left out")
        return
    signet = toolchain.signet() / "signet"
    folder = context.folder("signetcli")
    system = System(folder, "spire", "spire")
    try:
        cli = SignetCli(signet, system.server.admin_socket)
        entries(results, cli, folder)
        server_verbs(results, cli, folder)
        workload_verbs(results, SignetCli(signet, system.agent.workload_socket), folder)
        agent_verbs(results, cli)
    finally:
        system.stop()


def entries(results, cli, folder):
    with results.check("entry_create", abort=True):
        made = cli.create_entry(_ID, ["unix:uid:1", "unix:gid:2"], dns=["cli.example.org"], x509_ttl=120, hint="first")
        require(made["spiffe_id"] == {"trust_domain": TRUST_DOMAIN, "path": "/cli"} and made["hint"] == "first", f"{made}")
    with results.check("entry_create_duplicate_refused"):
        done = cli.call("entry", "create", "--spiffe-id", _ID, "--parent-id", NODE_ID, "--selector", "unix:gid:2", "--selector",
                        "unix:uid:1", check=False)
        require(done.returncode == 1 and "exists" in done.stderr, f"exit {done.returncode}: {done.stderr}")
    with results.check("entry_update"):
        updated = cli.update_entry(made["id"], f"{_ID}/renamed", ["unix:uid:4"], x509_ttl=60)
        require(updated["spiffe_id"]["path"] == "/cli/renamed" and updated["hint"] == "first", f"{updated}")
        require(updated["dns_names"] == ["cli.example.org"], "a field whose flag was not given changed")
    with results.check("entry_show"):
        require(cli.json("entry", "show", made["id"])["x509_svid_ttl"] == 60, "TTL")
        require("unix:uid:4" in cli.call("entry", "show", made["id"]).stdout, "text")
    with results.check("entry_list_and_count"):
        require(len(cli.json("entry", "list", "--selector", "unix:uid:4")["entries"]) == 1, "by selector")
        require(cli.json("entry", "count", "--hint", "first")["count"] == 1, "by hint")
    with results.check("entry_apply_1200_and_page"):
        path = folder / "many.json"
        path.write_text(json.dumps({"entries": [
            {"spiffe_id": f"{_ID}/many/{n}", "parent_id": NODE_ID, "selectors": [f"unix:uid:{5000000 + n}"]} for n in range(1200)]}))
        cli.call("entry", "apply", path, timeout=120)
        listed = cli.json("entry", "list", "--parent-id", NODE_ID)["entries"]
        require(len([e for e in listed if e["spiffe_id"]["path"].startswith("/cli/many/")]) == 1200, f"{len(listed)} listed")
        require("nothing to change" in cli.call("entry", "apply", path, timeout=120).stdout, "a second time it changed something")
    with results.check("entry_delete"):
        cli.delete_entry(made["id"])
        require(cli.call("entry", "show", made["id"], check=False).returncode == 1, "still there")


def server_verbs(results, cli, folder):
    with results.check("token_generate"):
        require(cli.join_token(f"{_ID}/token-alias"), "no value")
    with results.check("bundle_show"):
        require(cli.bundle_pem().startswith("-----BEGIN CERTIFICATE-----"), "pem")
        require({k["use"] for k in json.loads(cli.bundle_spiffe())["keys"]} == {"x509-svid", "jwt-svid"}, "spiffe")
        require(cli.json("bundle", "count")["count"] == 1, "count")
    with results.check("mint_x509"):
        out = folder / "minted"
        cli.call("svid", "mint-x509", "--spiffe-id", f"{_ID}/minted", "--dns", "m.example.org", "--ttl", "10m", "--write", out)
        process.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", out / "bundle.0.pem", out / "svid.0.pem"])
    with results.check("mint_jwt"):
        claims = jwt_claims(cli.call("svid", "mint-jwt", "--spiffe-id", f"{_ID}/minted", "--audience", "one", "--ttl", "60s").stdout.strip())
        require(claims["sub"] == f"{_ID}/minted" and claims["aud"] == ["one"] and 0 < claims["exp"] - time.time() <= 61, f"{claims}")
    with results.check("log_level"):
        cli.call("log-level", "warn")
        require("warn" in cli.call("log-level").stdout.lower(), "it did not stay")
        cli.call("log-level", "reset")


def workload_verbs(results, cli, folder):
    with results.check("svid_fetch"):
        require(WORKLOAD_ID in cli.call("svid", "fetch", "--write", folder / "svid").stdout, "no such ID")
        process.run(["openssl", "verify", "-x509_strict", "-CAfile", folder / "svid" / "bundle.0.pem", folder / "svid" / "svid.0.pem"])
    with results.check("svid_fetch_jwt_and_validate"):
        token = cli.json("svid", "fetch-jwt", "--audience", "aud")["svids"][0]["svid"]
        require(cli.json("svid", "validate", "--audience", "aud", "--svid", token)["spiffe_id"] == WORKLOAD_ID, "another ID")
        require(cli.call("svid", "validate", "--audience", "other", "--svid", token, check=False).returncode == 1, "wrong audience accepted")
    with results.check("svid_watch_sees_a_rotation"):
        log = folder / "watch.log"
        watch = Daemon("signet svid watch", [*cli.argv("svid", "watch", "--updates", "2")], log)
        try:
            wait_until("two updates", lambda: not watch.alive(), timeout=60)
            require(watch.process.returncode == 0 and len(set(re.findall(r"serial\s+(\d+)", log.read_text()))) == 2, log.read_text())
        finally:
            watch.stop()


def agent_verbs(results, cli):
    with results.check("agent_list_show_count"):
        listed = cli.json("agent", "list")["agents"]
        require([a["attestation_type"] for a in listed] == ["join_token"], f"{listed}")
        agent_id = f"spiffe://{TRUST_DOMAIN}{listed[0]['id']['path']}"
        require(agent_id in cli.call("agent", "show", agent_id).stdout, "show")
        require(cli.json("agent", "count", "--attestation-type", "x509pop")["count"] == 0, "count")
    with results.check("agent_ban_and_evict"):
        cli.call("agent", "ban", agent_id)
        require(cli.json("agent", "show", agent_id)["banned"] is True, "not banned")
        cli.call("agent", "evict", agent_id)
        require(cli.json("agent", "count")["count"] == 0, "still there")
