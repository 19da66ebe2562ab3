"""Operations of a DL-ILD server: run, secure, monitor, load and ship it.

The commands of ``dlild-deploy`` are in `cli`; each calls one module:

- `server`: tritonserver without Docker, on loopback; what it needs, checked before it starts.
- `proxy`: HAProxy before several servers, its API keys, and a cluster on one machine.
- `certificates`: a private authority for TLS.
- `load`: perf_analyzer on windows, our own client on whole scans.
- `bundle`, `verify_bundle`: the files for an air-gapped site.
- `grafana_dashboard`, `container_probe`, `demo`.

All processes are started, watched and stopped by `supervisor`. `server`, `proxy`, `bundle` and the
modules beside them need the standard library only, so that they also run in the server's own
environment; `cli` needs typer, `certificates` cryptography, `load` and `demo` the client.
"""
