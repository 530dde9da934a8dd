"""SPIRE's own `spire-server` commands against the admin socket of the server under test."""

import json
import re
import time

from harness import process, toolchain
from harness.results import Failure, require
from harness.system import NODE_ID, SERVERS, AGENTS, TRUST_DOMAIN, SpireCli

_ID = f"spiffe://{TRUST_DOMAIN}/cli"


def run(results, context):
    binary = toolchain.spire() / "spire-server"
    folder = context.folder("cli")
    server = SERVERS[context.server](folder / "s")
    try:
        cli = SpireCli(binary, server.admin_socket)
        with results.check("healthcheck"):
            require("healthy" in cli.call("healthcheck").stdout.lower(), "it does not say healthy")
        with results.check("healthcheck_shallow_verbose"):
            cli.call("healthcheck", "-shallow", "-verbose")
        entries(results, cli, folder)
        tokens(results, cli)
        bundles(results, cli)
        federation(results, cli, folder)
        minting(results, cli, folder)
        logger(results, cli)
        agents(results, cli, context, server, folder)
    finally:
        server.stop()


def tokens(results, cli):
    with results.check("token_generate"):
        text = cli.call("token", "generate", "-ttl", "60").stdout
        require(re.search(r"^Token: \S+$", text, re.MULTILINE), f"no `Token: ...` in {text!r}")
    with results.check("token_generate_spiffe_id_json"):
        require(cli.join_token(f"{_ID}/token-alias"), "no value")


def entries(results, cli, folder):
    with results.check("entry_create", abort=True):
        made = cli.create_entry(_ID, ["unix:uid:1", "unix:gid:2"], dns=["cli.example.org"], x509_ttl=120, hint="first")
        require(made["spiffe_id"] == {"trust_domain": TRUST_DOMAIN, "path": "/cli"}, f"spiffe_id {made['spiffe_id']}")
        require(made["parent_id"] == {"trust_domain": TRUST_DOMAIN, "path": "/node"}, f"parent_id {made['parent_id']}")
        require(made["dns_names"] == ["cli.example.org"] and made["hint"] == "first", f"{made}")
        require(str(made["x509_svid_ttl"]) == "120", f"x509_svid_ttl {made['x509_svid_ttl']}")
        require({(s["type"], s["value"]) for s in made["selectors"]} == {("unix", "uid:1"), ("unix", "gid:2")}, f"{made['selectors']}")
        require(made["id"] and str(made["revision_number"]) == "0", f"id or revision: {made}")
    with results.check("entry_create_duplicate_refused"):
        answer = cli.call("entry", "create", "-spiffeID", _ID, "-parentID", NODE_ID, "-selector", "unix:gid:2", "-selector",
                          "unix:uid:1", check=False)
        require(answer.returncode != 0 and "code: AlreadyExists" in answer.stdout + answer.stderr,
                f"exit {answer.returncode}: {answer.stdout}{answer.stderr}")
    with results.check("entry_create_chosen_id"):
        answer = cli.json("entry", "create", "-entryID", "my-entry", "-spiffeID", f"{_ID}/chosen", "-parentID", NODE_ID,
                          "-selector", "unix:uid:3", "-jwtSVIDTTL", "77", "-admin", "-downstream")
        entry = answer["results"][0]["entry"]
        require(entry["id"] == "my-entry" and entry["admin"] and entry["downstream"] and str(entry["jwt_svid_ttl"]) == "77", f"{entry}")
    with results.check("entry_create_node_alias"):
        cli.call("entry", "create", "-node", "-spiffeID", f"{_ID}/alias", "-selector", "x509pop:subject:cn:node")
    with results.check("entry_create_from_file"):
        path = folder / "entries.json"
        path.write_text(json.dumps({"entries": [
            {"selectors": [{"type": "unix", "value": f"uid:{n}"}], "spiffe_id": f"{_ID}/file{n}", "parent_id": NODE_ID} for n in (10, 11)]}))
        answer = cli.json("entry", "create", "-data", path)
        require(len(answer["results"]) == 2, f"{answer}")
    with results.check("entry_create_bad_selector_refused"):
        require(cli.call("entry", "create", "-spiffeID", _ID, "-parentID", NODE_ID, "-selector", "unix", check=False).returncode != 0,
                "it was accepted")
    with results.check("entry_create_foreign_trust_domain_refused"):
        answer = cli.call("entry", "create", "-spiffeID", "spiffe://other.org/x", "-parentID", NODE_ID, "-selector", "unix:uid:1", check=False)
        require(answer.returncode != 0, "it was accepted")
    with results.check("entry_show_by_id"):
        require(show(cli, "-entryID", made["id"])[0]["spiffe_id"]["path"] == "/cli", "another entry")
    with results.check("entry_show_text"):
        text = cli.call("entry", "show", "-entryID", made["id"]).stdout
        for line in ("Found 1 entry", f"SPIFFE ID        : {_ID}", "X509-SVID TTL    : 120", "Selector         : unix:uid:1", "DNS name         : cli.example.org"):
            require(line in text, f"no `{line}` in {text}")
    with results.check("entry_show_filters"):
        total = 5
        require(len(show(cli)) == total, f"{len(show(cli))} in all")
        require(len(show(cli, "-parentID", NODE_ID)) == total - 1, "by parent")
        require(len(show(cli, "-spiffeID", _ID)) == 1, "by SPIFFE ID")
        require(len(show(cli, "-hint", "first")) == 1, "by hint")
        require(len(show(cli, "-downstream")) == 1, "by downstream")
        require(len(show(cli, "-selector", "unix:uid:1")) == 1, "superset of uid:1")
        pair = ("-selector", "unix:uid:1", "-selector", "unix:uid:3")
        require(len(show(cli, *pair, "-matchSelectorsOn", "any")) == 2, "any of uid:1 uid:3")
        require(len(show(cli, *pair, "-matchSelectorsOn", "subset")) == 1, "subset of uid:1 uid:3")
        require(len(show(cli, "-selector", "unix:uid:3", "-matchSelectorsOn", "exact")) == 1, "exactly uid:3")
        require(len(show(cli, "-selector", "unix:uid:1", "-matchSelectorsOn", "exact")) == 0, "exactly uid:1")
    with results.check("entry_update"):
        updated = cli.update_entry(made["id"], f"{_ID}/renamed", ["unix:uid:4"], dns=["new.example.org"], x509_ttl=60)
        require(updated["spiffe_id"]["path"] == "/cli/renamed" and updated["dns_names"] == ["new.example.org"], f"{updated}")
        require(str(updated["revision_number"]) == "1", f"revision {updated['revision_number']}")
        again = show(cli, "-entryID", made["id"])[0]
        require([s["value"] for s in again["selectors"]] == ["uid:4"] and str(again["x509_svid_ttl"]) == "60", f"{again}")
    with results.check("entry_update_unknown_refused"):
        answer = cli.call("entry", "update", "-entryID", "nothing", "-spiffeID", _ID, "-parentID", NODE_ID, "-selector", "unix:uid:1", check=False)
        require(answer.returncode != 0 and "code: NotFound" in answer.stdout + answer.stderr,
                f"exit {answer.returncode}: {answer.stdout}{answer.stderr}")
    with results.check("entry_count"):
        require("5 registration entries" in cli.call("entry", "count").stdout, cli.call("entry", "count").stdout)
        require(cli.json("entry", "count", "-selector", "unix:uid:4")["count"] == 1, "by selector")
    with results.check("entry_delete"):
        require("Deleted entry with ID: my-entry" in cli.call("entry", "delete", "-entryID", "my-entry").stdout, "it does not say so")
        require(cli.call("entry", "delete", "-entryID", "my-entry", check=False).returncode != 0, "a second time too")
        require(len(show(cli)) == 4, "not gone")
    with results.check("entry_delete_from_file"):
        path = folder / "delete.json"
        path.write_text(json.dumps({"ids": [e["id"] for e in show(cli)]}))
        cli.call("entry", "delete", "-file", path)
        require(show(cli) == [], "not all gone")


def show(cli, *arguments):
    return cli.json("entry", "show", *arguments)["entries"]


def bundles(results, cli):
    with results.check("bundle_show_pem"):
        require(cli.bundle_pem().startswith("-----BEGIN CERTIFICATE-----"), "no PEM")
    with results.check("bundle_show_spiffe"):
        keys = json.loads(cli.bundle_spiffe())["keys"]
        require({k["use"] for k in keys} == {"x509-svid", "jwt-svid"}, f"uses {[k['use'] for k in keys]}")
        require(all(k.get("kid") for k in keys if k["use"] == "jwt-svid"), "a JWT key without kid")
    with results.check("bundle_show_json"):
        require(cli.json("bundle", "show")["trust_domain"] == TRUST_DOMAIN, "another trust domain")
    with results.check("bundle_count"):
        require(cli.json("bundle", "count")["count"] == 1, "not one")
        require("1 bundle" in cli.call("bundle", "count").stdout, "text")


def federation(results, cli, folder):
    name, url = "partner.org", "https://127.0.0.1:1/bundle"
    with results.check("federation_create"):
        bundle = folder / "partner.json"
        bundle.write_text(cli.bundle_spiffe())  # any keys will do
        cli.call("federation", "create", "-trustDomain", name, "-bundleEndpointURL", url, "-bundleEndpointProfile", "https_spiffe",
                 "-endpointSpiffeID", f"spiffe://{name}/spire/server", "-trustDomainBundlePath", bundle, "-trustDomainBundleFormat", "spiffe")
    with results.check("federation_show"):
        one = cli.json("federation", "show", "-trustDomain", name)
        require(one["bundle_endpoint_url"] == url and one["https_spiffe"]["endpoint_spiffe_id"] == f"spiffe://{name}/spire/server", f"{one}")
        require(one["trust_domain_bundle"]["x509_authorities"] and one["trust_domain_bundle"]["jwt_authorities"], f"{one}")
    with results.check("federation_create_again_refused"):
        answer = cli.call("federation", "create", "-trustDomain", name, "-bundleEndpointURL", url, "-bundleEndpointProfile", "https_web", check=False)
        require(answer.returncode != 0, f"{answer.stdout}")
    with results.check("federation_update"):
        cli.call("federation", "update", "-trustDomain", name, "-bundleEndpointURL", f"{url}2", "-bundleEndpointProfile", "https_web")
        one = cli.json("federation", "list")["federation_relationships"][0]
        require(one["bundle_endpoint_url"] == f"{url}2" and "https_web" in one and "https_spiffe" not in one, f"{one}")
        require(one["trust_domain_bundle"]["x509_authorities"], "the bundle is gone")
    with results.check("federation_refresh_of_an_endpoint_that_is_not_there_fails"):
        require(cli.call("federation", "refresh", "-id", name, check=False).returncode != 0, "it says it was refreshed")
    with results.check("federation_delete"):
        cli.call("federation", "delete", "-id", name)
        require(not cli.json("federation", "list")["federation_relationships"], "still there")


def minting(results, cli, folder):
    with results.check("x509_mint_write"):
        out = folder / "minted"
        out.mkdir()
        cli.call("x509", "mint", "-spiffeID", f"{_ID}/minted", "-dns", "a.example.org", "-dns", "b.example.org", "-ttl", "10m", "-write", out)
        process.run(["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", out / "bundle.pem", out / "svid.pem"])
        text = process.run(["openssl", "x509", "-noout", "-text", "-in", out / "svid.pem"]).stdout
        require(f"URI:{_ID}/minted" in text and "DNS:a.example.org" in text and "DNS:b.example.org" in text, "SANs")
    with results.check("x509_mint_stdout"):
        text = cli.call("x509", "mint", "-spiffeID", f"{_ID}/minted").stdout
        require("X509-SVID:" in text and "Private key:" in text and "Root CAs:" in text, text[:200])
    with results.check("x509_mint_foreign_trust_domain_refused"):
        require(cli.call("x509", "mint", "-spiffeID", "spiffe://other.org/x", check=False).returncode != 0, "it was accepted")
    with results.check("jwt_mint"):
        token = cli.call("jwt", "mint", "-spiffeID", f"{_ID}/minted", "-audience", "one", "-audience", "two", "-ttl", "60s").stdout.strip()
        require(token.count(".") == 2, token[:100])
        claims = jwt_claims(token)
        require(claims["sub"] == f"{_ID}/minted" and claims["aud"] == ["one", "two"], f"{claims}")
        require(0 < claims["exp"] - time.time() <= 61, f"exp {claims['exp']}")


def jwt_claims(token):
    import base64
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def logger(results, cli):
    with results.check("logger_get"):
        require(level(cli.json("logger", "get")) in ("DEBUG", "INFO"), "current level")
    with results.check("logger_set"):
        require(level(cli.json("logger", "set", "-level", "warn")) == "WARN", "answer")
        require(level(cli.json("logger", "get")) == "WARN", "it did not stay")
    with results.check("logger_reset"):
        answer = cli.json("logger", "reset")
        require(level(answer) == answer["launch_level"], f"{answer}")


def level(answer):
    return answer["current_level"]


def agents(results, cli, context, server, folder):
    """Wants an attested agent; the agent under test when it can run, else SPIRE's."""
    agent = AGENTS[context.agent](folder / "a", server, token=cli.join_token(NODE_ID))
    try:
        with results.check("agent_list"):
            listed = cli.json("agent", "list")["agents"]
            require(len(listed) == 1 and listed[0]["attestation_type"] == "join_token" and not listed[0]["banned"], f"{listed}")
            agent_id = f"spiffe://{TRUST_DOMAIN}{listed[0]['id']['path']}"
            text = cli.call("agent", "list").stdout
            require("Found 1 attested agent" in text and agent_id in text, text)
        with results.check("agent_list_filters"):
            require(len(cli.json("agent", "list", "-attestationType", "join_token")["agents"]) == 1, "by type")
            require(len(cli.json("agent", "list", "-attestationType", "x509pop")["agents"]) == 0, "by another type")
            require(len(cli.json("agent", "list", "-banned", "true")["agents"]) == 0, "banned")
            require(len(cli.json("agent", "list", "-canReattest", "false")["agents"]) == 1, "cannot re-attest")
        with results.check("agent_count"):
            require(cli.json("agent", "count")["count"] == 1, "not one")
        with results.check("agent_show"):
            shown = cli.json("agent", "show", "-spiffeID", agent_id)
            require(shown["x509svid_serial_number"] and int(shown["x509svid_expires_at"]) > time.time(), f"{shown}")
        with results.check("join_token_alias_entry"):
            aliases = show(cli, "-spiffeID", NODE_ID)
            require(len(aliases) == 1 and aliases[0]["parent_id"]["path"] == listed[0]["id"]["path"], f"{aliases}")
        with results.check("agent_ban"):
            cli.call("agent", "ban", "-spiffeID", agent_id)
            require(cli.json("agent", "show", "-spiffeID", agent_id)["banned"] is True, "not banned")
        with results.check("agent_evict"):
            cli.call("agent", "evict", "-spiffeID", agent_id)
            require(cli.json("agent", "count")["count"] == 0, "still there")
            require(cli.call("agent", "show", "-spiffeID", agent_id, check=False).returncode != 0, "still shown")
        with results.check("agent_evict_unknown_refused"):
            require(cli.call("agent", "evict", "-spiffeID", agent_id, check=False).returncode != 0, "it was accepted")
    except KeyError as error:
        raise Failure(f"a field is missing in the answer: {error}") from error
    finally:
        agent.stop()
