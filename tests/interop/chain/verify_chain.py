#!/usr/bin/env python3
"""A second verifier of delegation chains, written from the rules and sharing nothing with Signet's own.

    verify_chain.py FILE...      one JSON line a file: {"file", "proven", "problem"}; exit 1 unless all are proven

The rules (a chain is proven when all hold; public keys alone are needed):
  1. A receipt is a compact JWS, `typ` exactly signet-receipt+jwt, ES256 or RS256, its `kid` in the receipt key set. It holds
     jti txn iat prev root token subject_token user actor from audience bounds depth cnf policy grant task, nothing else,
     and so no iss, aud, sub, scope. `bounds` holds atoms, exp, max_depth and perhaps calls.
  2. The first has no prev, no from, depth 1. Each other: prev is SHA-256 (hex) of the compact JWS before; txn, root, user,
     grant and task are those before; subject_token is the token before; from is the actor before; depth is one more, or the
     same with the same actor (narrowed in place); max_depth, exp, calls never rise, iat never falls; every atom is within one
     before.
  3. No definition acts twice unless in a row. At most five deep.
  4. The token is a compact JWS, `typ` exactly at+jwt, `kid` in the token key set, iss as given. Its agent_ctx counts the
     receipts and holds the hash of the last. jti, txn, root, parent, user, grant, task, audience, key, depth and actors are
     those of the receipts; its exp, calls, max_depth and permissions are within the last.
  5. A tool with another hash is another tool. A bound of the wider side stays in the narrower; what is not understood must
     be equal.
Standard library only.
"""

import base64
import hashlib
import json
import re
import sys

MAX_JWT, MAX_DEPTH, MAX_RECEIPTS = 16 * 1024, 5, 13


class Wrong(Exception):
    """What is wrong with the chain."""


def check(condition, problem):
    if not condition:
        raise Wrong(problem)


# --- signatures ------------------------------------------------------------------------------------------------------------
# P-256 (FIPS 186-4, SEC 1 4.1.4), affine and slow: a chain has a handful of signatures.

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = (3 * p[0] * p[0] - 3) * pow(2 * p[1], -1, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P)
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def multiply(k, p):
    total = None
    while k:
        if k & 1:
            total = add(total, p)
        p, k = add(p, p), k >> 1
    return total


def es256(key, message, signature):
    if key.get("kty") != "EC" or key.get("crv") != "P-256" or len(signature) != 64:
        return False
    x, y = (int.from_bytes(decode(key[name]), "big") for name in ("x", "y"))
    if not (x < P and y < P and (y * y - (x * x * x - 3 * x + B)) % P == 0):
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N):
        return False
    digest, w = int.from_bytes(hashlib.sha256(message).digest(), "big"), pow(s, -1, N)
    point = add(multiply(digest * w % N, G), multiply(r * w % N, (x, y)))
    return point is not None and point[0] % N == r


def rs256(key, message, signature):
    if key.get("kty") != "RSA":
        return False
    n, e = (int.from_bytes(decode(key[name]), "big") for name in ("n", "e"))
    size = (n.bit_length() + 7) // 8
    if n.bit_length() < 2048 or len(signature) != size:
        return False
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
    expected = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info  # RFC 8017 9.2
    return pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big") == expected


# --- JSON and JWS ------------------------------------------------------------------------------------------------------------


def decode(text):
    check(re.fullmatch(r"[A-Za-z0-9_-]*", text), "base64url: a byte that is not of the alphabet")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise Wrong("base64url: truncated") from None
    check(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, "base64url: stray bits")
    return data


def strict_json(data):
    def no_repeats(pairs):
        check(len({key for key, _ in pairs}) == len(pairs), "JSON: duplicate key")
        return dict(pairs)

    def no_constant(name):
        raise Wrong(f"JSON: {name}")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=no_repeats, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Wrong("JSON: malformed") from None


def canonical(value):
    def plain(v):
        if isinstance(v, float) and v.is_integer():
            return int(v)
        if isinstance(v, list):
            return [plain(item) for item in v]
        if isinstance(v, dict):
            return {k: plain(item) for k, item in v.items()}
        return v

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def open_jws(text, kind, keys):
    """The payload of a JWT of this very kind, signed by one of these keys."""
    check(isinstance(text, str) and 0 < len(text) <= MAX_JWT, "JWS: absent or too long")
    parts = text.split(".")
    check(len(parts) == 3, "JWS: not three parts")
    header = strict_json(decode(parts[0]))
    check(isinstance(header, dict), "JWS: header is not an object")
    check(not header.keys() & {"crit", "jwk", "jku", "x5u", "x5c", "b64"}, "JWS: header member refused")
    check(header.get("typ") == kind, f"JWS: typ is not {kind}")
    verify = {"ES256": es256, "RS256": rs256}.get(header.get("alg"))
    check(verify, "JWS: alg is not one we use")
    kid = header.get("kid")
    check(isinstance(kid, str) and kid in keys, "JWS: key is not known")
    check(verify(keys[kid], f"{parts[0]}.{parts[1]}".encode(), decode(parts[2])), "JWS: signature does not verify")
    claims = strict_json(decode(parts[1]))
    check(isinstance(claims, dict), "JWS: payload is not an object")
    return claims


def key_set(jwks):
    keys = {}
    for key in (jwks or {}).get("keys", []):
        if "kid" in key:
            check(key["kid"] not in keys, "key set: a kid comes twice")
            keys[key["kid"]] = key
    return keys


class Form:
    """Members of an object by name and type; what is left over can be refused."""

    def __init__(self, value, what):
        check(isinstance(value, dict), f"{what}: not an object")
        self.left, self.what = dict(value), what

    def take(self, name, kind, default=None, required=False):
        if name not in self.left:
            check(not required, f"{self.what}: no {name}")
            return default
        value = self.left.pop(name)
        check(type(value) is kind, f"{self.what}: {name} is not of its type")
        if required and kind is str:
            check(value, f"{self.what}: {name} is empty")
        return value

    def text(self, name, required=False):
        return self.take(name, str, "", required)

    def number(self, name, low, high, required=True):
        value = self.take(name, int, None, required)
        check(value is None or low <= value <= high, f"{self.what}: {name} is out of range")
        return value

    def time(self, name):
        return self.number(name, 0, 253402300799)

    def nothing_else(self):
        check(not self.left, f"{self.what}: holds {sorted(self.left)}")


# --- permissions ---------------------------------------------------------------------------------------------------------


def read_constraints(value):
    check(isinstance(value, dict), "constraints: not an object")
    for field, bounds in value.items():
        check(field and isinstance(bounds, dict) and bounds, "constraints: malformed")
        for name, bound in bounds.items():
            check(name, "constraints: malformed")
            if name == "in":
                check(isinstance(bound, list), "constraints: in is not an array")
            elif name in ("min", "max", "from", "until"):
                check(type(bound) is int, f"constraints: {name} is not an integer")
    return {
        field: {name: {canonical(v) for v in bound} if name == "in" else canonical(bound) if name not in ORDERED else bound
                for name, bound in bounds.items()}
        for field, bounds in value.items()
    }


ORDERED = {"min": lambda a, b: a >= b, "from": lambda a, b: a >= b, "max": lambda a, b: a <= b, "until": lambda a, b: a <= b}


def can_be_met(bounds):
    if "in" in bounds and not bounds["in"]:
        return False
    if "min" in bounds and "max" in bounds and bounds["min"] > bounds["max"]:
        return False
    return not ("from" in bounds and "until" in bounds and bounds["from"] >= bounds["until"])


def as_set(atoms):
    """(resource, is tool, name) -> (hash, constraints)."""
    result = {}
    for key, value in atoms:
        if not all(can_be_met(bounds) for bounds in value[1].values()):
            continue
        check(result.setdefault(key, value) == value, "permissions: one in two ways")
    return result


def read_atoms(value):
    check(isinstance(value, list), "atoms: not an array")
    atoms = []
    for item in value:
        form = Form(item, "atom")
        tool = form.take("tool", bool, False)
        tool_hash = form.text("tool_hash")
        check(bool(re.fullmatch("[0-9a-f]{64}", tool_hash)) if tool else not tool_hash, "atom: wrong tool_hash")
        key = (form.text("resource", True), tool, form.text("action", True))
        atoms.append((key, (tool_hash, read_constraints(form.take("constraints", dict, {})))))
        form.nothing_else()
    return as_set(atoms)


def narrower(inner, outer):
    """Whether bounds of one field allow nothing that `outer` does not."""
    for name, bound in outer.items():
        if name not in inner:
            return False
        if name == "in":
            if not inner[name] <= bound:
                return False
        elif not ORDERED.get(name, lambda a, b: a == b)(inner[name], bound):
            return False
    return True


def within(inner, outer):
    for key, (tool_hash, constraints) in inner.items():
        if key not in outer or outer[key][0] != tool_hash:
            return False
        if not all(field in constraints and narrower(constraints[field], bounds) for field, bounds in outer[key][1].items()):
            return False
    return True


# --- receipts and token ----------------------------------------------------------------------------------------------------


def read_binding(form):
    cnf = form.take("cnf", dict, None)
    if cnf is None:
        return ("", "")
    inner = Form(cnf, "cnf")
    binding = (inner.text("jkt"), inner.text("x5t#S256"))
    inner.nothing_else()
    check(any(binding), "cnf: names no key")
    return binding


def read_receipt(jws, keys):
    form = Form(open_jws(jws, "signet-receipt+jwt", keys), "receipt")
    receipt = {name: form.text(name, True) for name in ("jti", "txn", "root", "token", "actor", "audience")}
    receipt |= {name: form.text(name) for name in ("prev", "subject_token", "user", "from", "policy", "grant", "task")}
    receipt["iat"] = form.time("iat")
    receipt["depth"] = form.number("depth", 1, MAX_DEPTH)
    receipt["cnf"] = read_binding(form)
    bounds = Form(form.take("bounds", dict, required=True), "bounds")
    form.nothing_else()
    receipt["exp"] = bounds.time("exp")
    receipt["max_depth"] = bounds.number("max_depth", 1, MAX_DEPTH)
    receipt["calls"] = bounds.number("calls", 0, 2**53 - 1, required=False)
    receipt["atoms"] = read_atoms(bounds.take("atoms", list, required=True))
    bounds.nothing_else()
    return receipt


CONTEXT_TEXTS = ("task", "task_hash", "session", "instance", "grant", "identity", "user_iss", "user_sub", "node", "parent",
                 "receipt_hash")


def read_context(value):
    form = Form(value, "agent_ctx")
    context = {name: form.text(name) for name in CONTEXT_TEXTS}
    context["root"] = form.text("root", True)
    context["depth"] = form.number("depth", 1, MAX_DEPTH)
    context["max_depth"] = form.number("max_depth", 1, MAX_DEPTH)
    context["receipts"] = form.number("receipts", 0, MAX_RECEIPTS)
    context["calls"] = form.number("calls", 0, 2**53 - 1, required=False)
    form.number("rev", 0, 2**63 - 1)
    for name in ("reauth_at", "rights_at"):
        form.number(name, 0, 253402300799, required=False)
    ancestors = form.take("ancestors", list, [])
    for ancestor in ancestors:
        inner = Form(ancestor, "ancestors")
        inner.text("jti", True)
        for name in ("instance", "node", "kid"):
            inner.text(name)
        inner.nothing_else()
    form.nothing_else()
    check(bool(context["parent"]) == bool(ancestors), "agent_ctx: parent without ancestors")
    check(bool(context["user_iss"]) == bool(context["user_sub"]), "agent_ctx: half a user")
    return context


def read_act(value):
    actors = []
    while value is not None:
        check(len(actors) < MAX_DEPTH, "act: nested deeper than 5")
        form = Form(value, "act")
        actors.append(form.text("sub", True))
        form.text("iss", True)
        check(form.text("sub_profile") == "ai_agent", "act: sub_profile")
        value = form.take("act", dict, None)
        form.nothing_else()
    return actors


def read_permissions(form, calls):
    atoms = []
    for item in form.take("authorization_details", list, []):
        inner = Form(item, "authorization_details")
        check(inner.text("type") == "mcp_tool_call", "authorization_details: type")
        locations = inner.take("locations", list, [])
        check(len(locations) == 1, "authorization_details: locations")
        check(inner.number("max_calls", 1, 2**53 - 1, required=False) == calls, "authorization_details: max_calls")
        hashes = inner.take("tool_hashes", dict, {})
        constraints = read_constraints(inner.take("constraints", dict, {}))
        for tool in inner.take("tools", list, []):
            check(tool in hashes, "authorization_details: no tool hash")
            atoms.append(((locations[0], True, tool), (hashes[tool], constraints)))
        inner.nothing_else()
    for item in form.take("permissions", list, []):
        inner = Form(item, "permissions")
        resource = inner.text("resource", True)
        constraints = read_constraints(inner.take("constraints", dict, {}))
        for action in inner.take("actions", list, []):
            atoms.append(((resource, False, action), ("", constraints)))
        inner.nothing_else()
    return as_set(atoms)


def read_token(jws, keys, issuer):
    form = Form(open_jws(jws, "at+jwt", keys), "token")
    token = {name: form.text(name, True) for name in ("iss", "sub", "sub_profile", "aud", "client_id", "jti", "txn")}
    check(token["iss"] == issuer, "token: of another issuer")
    form.time("iat")
    token["exp"] = form.time("exp")
    token["cnf"] = read_binding(form)
    token["ctx"] = read_context(form.take("agent_ctx", dict, required=True))
    token["receipts"] = form.take("actor_receipts", list, [])
    token["atoms"] = read_permissions(form, token["ctx"]["calls"])
    actors = read_act(form.take("act", dict, None))
    if actors:
        check(token["sub_profile"] == "user" and token["ctx"]["user_iss"], "token: act without a user")
        check(token["ctx"]["depth"] == len(actors), "token: depth is not the number of actors")
        check(token["ctx"]["depth"] <= token["ctx"]["max_depth"], "token: deeper than its max_depth")
        check(actors[0] == token["client_id"], "token: client_id is not the outermost actor")
    else:
        check(token["sub"] == token["client_id"] and token["sub_profile"] == "ai_agent" and not token["ctx"]["user_iss"]
              and token["ctx"]["depth"] == 1, "token: without act, and not own authority")
        actors = [token["client_id"]]
    token["actors"] = actors
    return token


# --- the chain ---------------------------------------------------------------------------------------------------------------


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def named(text):
    return "sha-256:" + sha256(text)


def definition(spiffe_id):
    match = re.fullmatch(r"(spiffe://[a-z0-9._-]+/agent/[^/]+(?:/[^/]+)*)/[^/]+", spiffe_id)
    return match.group(1) if match else spiffe_id


def rises(before, after):
    return before is not None and (after is None or after > before)


def check_link(before, before_jws, receipt):
    check(receipt["prev"] == sha256(before_jws), "incomplete: does not follow the one before")
    for name in ("txn", "root", "user", "grant", "task"):
        check(receipt[name] == before[name], f"{name} changes")
    check(receipt["subject_token"] == before["token"], "not made from the token before")
    check(receipt["from"] == before["actor"], "not passed on by the actor before")
    if receipt["depth"] == before["depth"]:
        check(receipt["actor"] == before["actor"], "a new actor without a new hop")
    else:
        check(receipt["depth"] == before["depth"] + 1, "incomplete: depth has a gap")
    check(receipt["depth"] <= receipt["max_depth"] <= before["max_depth"], "depth or its limit rises")
    check(receipt["exp"] <= before["exp"], "expiry rises")
    check(receipt["iat"] >= before["iat"], "time runs back")
    check(not rises(before["calls"], receipt["calls"]), "calls rise")
    check(within(receipt["atoms"], before["atoms"]), "permissions are wider")


def check_token(token, jws_list, hops, actors):
    ctx, last = token["ctx"], hops[-1]
    check(ctx["receipts"] == len(jws_list), "incomplete: not all receipts")
    check(ctx["receipt_hash"] == sha256(jws_list[-1]), "incomplete: the last receipt is another")
    check(not token["receipts"] or token["receipts"] == jws_list, "its own receipts are others")
    check(last["token"] == named(token["jti"]), "the last receipt is of another token")
    check(last["root"] == named(ctx["root"]), "another root")
    check(ctx["parent"] == (last["subject_token"] if len(hops) > 1 else ""), "another parent")
    check(last["user"] == (named(f"{ctx['user_iss']} {ctx['user_sub']}") if ctx["user_iss"] else ""), "another user")
    for mine, theirs in ((token["txn"], "txn"), (ctx["grant"], "grant"), (ctx["task"], "task"), (token["aud"], "audience"),
                         (token["cnf"], "cnf"), (ctx["depth"], "depth")):
        check(mine == last[theirs], f"another {theirs}")
    check(ctx["max_depth"] <= last["max_depth"], "max_depth rises")
    check(token["exp"] <= last["exp"] and not rises(last["calls"], ctx["calls"]), "expiry or calls rise")
    check(within(token["atoms"], last["atoms"]), "permissions are wider")
    check(token["actors"] == actors, "actors are not those of the receipts")


def unverified(jws):
    try:
        return strict_json(decode(jws.split(".")[1]))
    except (Wrong, IndexError, AttributeError):
        return {}


def pick(jws_list, token_jws):
    """The receipts of this token: those inside it when none came, its own path when a whole tree came."""
    claims = unverified(token_jws)
    context = claims.get("agent_ctx") if isinstance(claims, dict) else None
    if not isinstance(context, dict):
        return jws_list
    jws_list = jws_list or claims.get("actor_receipts", [])
    if not isinstance(context.get("receipts"), int) or len(jws_list) <= context["receipts"]:
        return jws_list
    by_hash, path, next_hash = {sha256(jws): jws for jws in jws_list}, [], context.get("receipt_hash", "")
    while next_hash in by_hash and len(path) <= MAX_RECEIPTS:
        path.insert(0, by_hash[next_hash])
        payload = unverified(path[0])
        next_hash = payload.get("prev", "") if isinstance(payload, dict) else ""
    return path


def verify(chain):
    """Returns what is wrong; nothing: the chain is proven."""
    try:
        token_jws = chain.get("token", "")
        jws_list = pick(chain.get("receipts", []), token_jws)
        check(jws_list, "incomplete: no receipts")
        check(len(jws_list) <= MAX_RECEIPTS, "too many receipts")
        receipt_keys, token_keys = key_set(chain.get("receipt_keys")), key_set(chain.get("token_keys"))
        hops = [read_receipt(jws, receipt_keys) for jws in jws_list]
        check(not hops[0]["prev"] and hops[0]["depth"] == 1, "incomplete: the root is missing")
        check(not hops[0]["from"], "the root was passed on")
        for i in range(1, len(hops)):
            check_link(hops[i - 1], jws_list[i - 1], hops[i])
        actors = [hop["actor"] for i, hop in enumerate(hops) if i == 0 or hop["depth"] != hops[i - 1]["depth"]][::-1]
        runs = [d for i, d in enumerate(map(definition, actors)) if i == 0 or d != definition(actors[i - 1])]
        check(len(set(runs)) == len(runs), "a definition acts twice, not in a row")
        check(token_jws, "incomplete: no token")
        check_token(read_token(token_jws, token_keys, chain.get("issuer", "")), jws_list, hops, actors)
        return ""
    except Wrong as wrong:
        return str(wrong)


def main(paths):
    proven = True
    for path in paths:
        with open(path, "rb") as file:
            problem = verify(json.load(file))
        print(json.dumps({"file": path, "proven": not problem, "problem": problem}))
        proven = proven and not problem
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
