"""Brings up real Kubernetes programs: an API server alone, or a whole node in namespaces of its own."""
