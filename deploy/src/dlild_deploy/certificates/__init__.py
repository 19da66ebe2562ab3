"""A private certificate authority for TLS between clients, proxy and servers."""
