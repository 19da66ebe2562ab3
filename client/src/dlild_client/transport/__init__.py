"""Transport of a scan over gRPC: wire messages, the exchange of one scan, and its two transports.

`exchange.py` is the protocol without I/O. `base.py` defines the `Transport` protocol;
`blocking.py` and `aio.py` implement it for `Client` and `AsyncClient`, which share one core.
"""
