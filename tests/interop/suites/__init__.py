"""The suites in the order they run, cheapest and most telling first."""

from . import certificates, clients, spire_agent, spire_agent_cli, spire_cli, spire_server

# name -> (function, what it shows, seconds it takes once its counterpart is installed)
SUITES = {
    "spire-cli": (spire_cli.run, "SPIRE's spire-server CLI against the admin socket", 15),
    "certificates": (certificates.run, "every issued certificate, judged by go-spiffe and openssl", 15),
    "go": (clients.go, "go-spiffe: sources, calls, refusals, mTLS through rotations", 60),
    "python": (clients.python, "the Python spiffe package", 30),
    "rust": (clients.rust, "the Rust spiffe crate", 30),
    "java": (clients.java, "java-spiffe", 30),
    "spire-agent-cli": (spire_agent_cli.run, "SPIRE's spire-agent CLI against the workload socket", 30),
    "spire-agent": (spire_agent.run, "SPIRE's agent against the server: join token, x509pop, changes, ban", 60),
    "spire-server": (spire_server.run, "the agent against SPIRE's server", 60),
}
