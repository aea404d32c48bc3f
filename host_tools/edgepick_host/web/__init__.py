"""The fleet over HTTP: an API with roles, metrics for Prometheus, and a page for people."""
