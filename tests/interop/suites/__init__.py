"""The suites in the order they run, cheapest and most telling first."""

from . import certificates, clients, federation, parity, signet_cli, spire_agent, spire_agent_cli, spire_cli, spire_server, tokens

# name -> (function, what it shows, seconds it takes once its counterpart is installed)
SUITES = {
    "spire-cli": (spire_cli.run, "SPIRE's spire-server CLI against the admin socket", 5),
    "server-parity": (parity.server, "a table of RPCs to SPIRE's server and ours, answers compared", 20),
    "agent-parity": (parity.agent, "a table of Workload API calls to SPIRE's agent and ours, answers compared", 20),
    "certificates": (certificates.run, "every issued certificate, judged by go-spiffe and openssl", 20),
    "go": (clients.go, "go-spiffe: sources, calls, refusals, mTLS through rotations", 50),
    "python": (clients.python, "the Python spiffe package", 15),
    "rust": (clients.rust, "the Rust spiffe crate", 15),
    "java": (clients.java, "java-spiffe", 15),
    "ca-rotation": (clients.ca_rotation, "go-spiffe mTLS and JWTs while the server's authorities change", 100),
    "spire-agent-cli": (spire_agent_cli.run, "SPIRE's spire-agent CLI against the workload socket", 15),
    "spire-agent": (spire_agent.run, "SPIRE's agent against the server: join token, x509pop, changes, 1200 entries, restart, ban, eviction", 60),
    "spire-server": (spire_server.run, "the agent against SPIRE's server: join token, x509pop, changes, the server away", 80),
    "federation": (federation.run, "the bundle of a SPIRE server's endpoint, followed through its rotation into a workload's hand", 20),
    "tokens": (tokens.run, "oauth4webapi, openid-client, Authlib, jose, PyJWT, go-jose and MCP with a user of Keycloak", 90),
    "signet-cli": (signet_cli.run, "our signet against SPIRE's server and agent", 20),
}
