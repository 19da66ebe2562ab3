"""HAProxy before several servers, its API keys, and a cluster of both on one machine."""
