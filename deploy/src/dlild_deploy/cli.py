"""The command `dlild-deploy`: one command line for the operations of a DL-ILD server.

Each command is a few lines round a function of the package, which it imports when it runs.
"""

import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from dlild_deploy.checkout import CACHE, MODEL_REPOSITORY
from dlild_deploy.errors import DeployError
from dlild_deploy.supervisor import Stopped, run_until_stopped, stop_on_signals

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def _app(text: str, **options: Any) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=text,
        **options,
    )


app = _app(
    "Operations of a DL-ILD server. For research use only.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 input rejected, 130 interrupted. "
    "`serve` and `cluster` end on Ctrl-C or SIGTERM with 0.",
)
certs = _app("Certificates for TLS from a private authority.")
keys = _app("API keys that the proxy accepts; reload the proxy after a change.")
load = _app("Measure how many scans a server scores.")
app.add_typer(certs, name="certs")
app.add_typer(keys, name="keys")
app.add_typer(load, name="load")


def _print_version(wanted: bool) -> None:
    if wanted:
        print("dlild-deploy", version("dlild-deploy"))
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


RepositoryOption = Annotated[Path, typer.Option(help="Model repository.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of the certificates.")]
KeyFileArgument = Annotated[Path, typer.Argument(help="keys.map of the proxy.")]
OutOption = Annotated[Path, typer.Option(help="Folder for the results.")]
ScansOption = Annotated[
    list[Path] | None,
    typer.Option("--scan", help="DICOM folder or image file to send; may be repeated."),
]
DaysOption = Annotated[int, typer.Option(help="Life of what is made.")]
FREE_PORT = "0 chooses a free one."


# ---- servers -------------------------------------------------------------------------------------


@app.command()
def serve(
    repository: RepositoryOption = MODEL_REPOSITORY,
    profile: Annotated[str, typer.Option(help="Profile to serve.")] = "embedded",
    grpc_port: Annotated[int, typer.Option(help=FREE_PORT)] = 8001,
    http_port: Annotated[int, typer.Option(help=FREE_PORT)] = 8000,
    metrics_port: Annotated[int, typer.Option(help=FREE_PORT)] = 8002,
    server_python: Annotated[
        Path | None, typer.Option(help="Python of the server's own environment.")
    ] = None,
    log: Annotated[Path, typer.Option(help="The server's log.")] = CACHE / "tritonserver.log",
    ready_timeout: Annotated[float, typer.Option(help="Seconds until it must be ready.")] = 120.0,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Authority of the clients: mutual TLS (PEM).")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that clients must send.")
    ] = None,
) -> None:
    """Run the embedded Triton on loopback until Ctrl-C or SIGTERM."""
    from dlild_deploy.server.serve import serve as run_server  # noqa: PLC0415

    run_server(
        repository=repository,
        profile=profile,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        server_python=server_python,
        log=log,
        ready_timeout=ready_timeout,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ca=tls_ca,
        api_key_file=api_key_file,
    )


@app.command()
def cluster(
    servers: Annotated[int, typer.Option(help="Number of servers.")] = 3,
    repository: RepositoryOption = MODEL_REPOSITORY,
    certificates: Annotated[Path, typer.Option(help="Folder of `certs make`.")] = Path("certs"),
    keys_map: Annotated[Path, typer.Option("--keys", help="File of `keys add`.")] = Path(
        "certs/keys.map"
    ),
    client: Annotated[str, typer.Option(help="Client that the printed advice is for.")] = "trial",
    api_key_file: Annotated[Path, typer.Option(help="Its API key.")] = Path(
        "certs/client-trial.api-key"
    ),
    port: Annotated[int, typer.Option(help=f"Of the proxy; {FREE_PORT}")] = 8001,
    metrics_port: Annotated[int, typer.Option(help=f"Of the proxy; {FREE_PORT}")] = 8404,
    base_port: Annotated[
        int, typer.Option(help=f"First port of the servers, ten for each; {FREE_PORT}")
    ] = 8100,
    logs: Annotated[Path, typer.Option(help="Folder of the logs.")] = CACHE / "cluster",
) -> None:
    """Run several embedded servers behind HAProxy on loopback until Ctrl-C or SIGTERM."""
    from dlild_deploy.proxy.cluster import Cluster, make_servers  # noqa: PLC0415
    from dlild_deploy.proxy.haproxy import Proxy  # noqa: PLC0415

    proxy = Proxy(
        certificates,
        keys_map,
        port=port,
        metrics_port=metrics_port,
        log_path=logs / "haproxy.log",
        settings={"DLILD_DRAIN_S": "30"},
    )
    members = make_servers(servers, repository=repository, base_port=base_port, log_folder=logs)
    try:
        with Cluster(members, proxy) as running:
            print(f"ready   {proxy.url}  {len(members)} servers, mutual TLS, API key")
            for number, server in enumerate(members, 1):
                print(
                    f"server  {number}: pid {server.pid}, gRPC {server.grpc_port}, "
                    f"{server.metrics_url}"
                )
            print(f"proxy   pid {proxy.pid}, {proxy.metrics_url}")
            print(f"logs    {logs}")
            print(
                f"score   dlild score SCAN --url {proxy.url} --tls-ca {certificates / 'ca.crt'} "
                f"--tls-cert {certificates / f'client-{client}.crt'} "
                f"--tls-key {certificates / f'client-{client}.key'} --api-key-file {api_key_file}"
            )
            print(f"stop    Ctrl-C, or kill {os.getpid()}", flush=True)
            run_until_stopped(running.watch(_print_error))
    except Stopped:
        print("stopped")


@app.command()
def demo(
    scan: Annotated[
        Path | None, typer.Option(help="DICOM folder or image file; a phantom if left out.")
    ] = None,
    out: OutOption = Path("demo"),
) -> None:
    """Score one scan through the embedded server."""
    from dlild_deploy.demo import run_demo  # noqa: PLC0415

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    run_demo(scan, out)


@app.command()
def preflight(
    repository: RepositoryOption = MODEL_REPOSITORY,
    profile: Annotated[str, typer.Option(help="Profile to serve.")] = "embedded",
    server_python: Annotated[
        Path | None, typer.Option(help="Python of the server's own environment.")
    ] = None,
) -> None:
    """Check what the embedded server needs, and start nothing."""
    from dlild_deploy.server import preflight as checks  # noqa: PLC0415

    checks.check_platform()
    environment = checks.find_environment(server_python or checks.default_server_python())
    checks.check_repository(repository, profile)
    print(f"ready to serve profile {profile} of {repository} with {environment.tritonserver}")


# ---- certificates and keys -----------------------------------------------------------------------


@certs.command("make")
def make_certs(
    folder: FolderArgument,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name or address of the server; may be repeated.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="Name of a client; may be repeated.")
    ] = None,
    days: DaysOption = 365,
) -> None:
    """Make what is missing of authority, server and clients; existing files are kept."""
    from dlild_deploy.certificates.issue_certificates import make  # noqa: PLC0415

    make(folder, name or [], client or [], days)


@certs.command("renew")
def renew_certs(
    folder: FolderArgument,
    names: Annotated[list[str], typer.Argument(help="tls, or client-NAME.")],
    days: DaysOption = 365,
) -> None:
    """Renew certificates for the same names with new keys; the old pairs go to old/."""
    from dlild_deploy.certificates.issue_certificates import renew  # noqa: PLC0415

    renew(folder, names, days)


@certs.command("check")
def check_certs(
    folder: FolderArgument,
    within: Annotated[int, typer.Option(help="Days that must be left.")] = 30,
) -> None:
    """Print the days left to every certificate; exit code 1 where one has fewer than --within."""
    from dlild_deploy.certificates.issue_certificates import check  # noqa: PLC0415

    raise typer.Exit(check(folder, within))


@keys.command("add")
def add_key(
    file: KeyFileArgument, name: Annotated[str, typer.Argument(help="Of the client.")]
) -> None:
    """Make a key and print it, this once."""
    from dlild_deploy.proxy import api_keys  # noqa: PLC0415

    print(api_keys.add_key(file, api_keys.read_keys(file), name))


@keys.command("list")
def list_keys(file: KeyFileArgument) -> None:
    """Print the beginning of each digest, and the name."""
    from dlild_deploy.proxy import api_keys  # noqa: PLC0415

    print("\n".join(f"{d[:12]}  {name}" for d, name in api_keys.read_keys(file).items()))


@keys.command("remove")
def remove_key(
    file: KeyFileArgument,
    name: Annotated[str, typer.Argument(help="All keys of this name, or the one of this digest.")],
) -> None:
    """Remove keys."""
    from dlild_deploy.proxy import api_keys  # noqa: PLC0415

    api_keys.remove_key(file, api_keys.read_keys(file), name)


# ---- load ----------------------------------------------------------------------------------------


@load.command("windows")
def load_windows(
    out: OutOption = Path("out"),
    scan: ScansOption = None,
    server: Annotated[
        str | None, typer.Option(help="host:port of gRPC; the embedded server if left out.")
    ] = None,
    most: Annotated[int, typer.Option(help="Scans at once, at most.")] = 8,
) -> None:
    """Send windows with perf_analyzer, one scan at once, then two, and so on."""
    from dlild_deploy.load.window_load import measure_windows  # noqa: PLC0415

    text = measure_windows(out, scan or [], server, most)
    print(f"\n{text}\nwritten: {out / 'load.csv'}, {out / 'load.md'}")


@load.command("table")
def load_table(
    reports: Annotated[list[Path], typer.Argument(help="CSV files of perf_analyzer.")],
    windows_a_scan: Annotated[float, typer.Option(help="Mean number of windows of a scan.")] = 1,
) -> None:
    """Print one table of reports that perf_analyzer has written before."""
    from dlild_deploy.load.window_load import read_reports  # noqa: PLC0415

    print(read_reports(reports, windows_a_scan))


@load.command("sequences")
def load_sequences(
    scans: Annotated[list[Path], typer.Argument(help="DICOM folders or image files.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("sequences.json"),
) -> None:
    """Write perf_analyzer's input from scans; it holds their voxels."""
    from dlild_deploy.load.scan_sequences import write_sequences  # noqa: PLC0415

    windows = write_sequences(scans, out)
    print(f"written: {out}, {len(windows)} scans of {windows} windows")


def _client_counts(text: str) -> str:
    """Return a list such as ``1,2,4,8`` where it is one."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 64 for part in parts):
        raise typer.BadParameter(f"{text!r}: give numbers from 1 to 64, such as 1,2,4,8")
    return text


@load.command("scans")
def load_scans(
    out: OutOption = Path("out"),
    scan: ScansOption = None,
    url: Annotated[
        str | None, typer.Option(help="Address of a server; the embedded one if left out.")
    ] = None,
    clients: Annotated[
        str, typer.Option(callback=_client_counts, help="Clients at once, level by level.")
    ] = "1,2,4,8",
    seconds: Annotated[float, typer.Option(help="Of each level.")] = 60,
) -> None:
    """Score whole scans with our own client, several clients at once."""
    from dlild_deploy.load.scan_load import lay_out, measure_scans  # noqa: PLC0415

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    counts = [int(part) for part in clients.split(",")]
    levels = measure_scans(out, scan or [], url, counts, seconds)
    print(f"\n{lay_out(levels)}\nwritten: {out / 'scans.csv'}, {out / 'scans.md'}")
    if not all(level.scans for level in levels):
        raise typer.Exit(FAILED)


# ---- bundle and dashboard ------------------------------------------------------------------------


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="Must not be there yet.")],
    wheels: Annotated[
        bool, typer.Option("--wheels", help="With the packages of client and operations.")
    ] = False,
) -> None:
    """Gather what an air-gapped site needs."""
    from dlild_deploy.bundle import make_bundle  # noqa: PLC0415
    from dlild_deploy.verify_bundle import SUMS, files_of, sha256  # noqa: PLC0415

    start = time.monotonic()
    make_bundle(folder, wheels=wheels)
    files = files_of(folder)
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{folder}: {len(files)} files, {size:.0f} MB, {time.monotonic() - start:.0f} s")
    print(f"digest of {SUMS}, to be compared over another way:\n{sha256(folder / SUMS)}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The bundle.")],
    digest: Annotated[
        str | None, typer.Option(help="SHA-256 of SHA256SUMS, as `bundle` printed it.")
    ] = None,
) -> None:
    """Check a bundle: nothing changed, nothing missing, nothing added."""
    from dlild_deploy import verify_bundle  # noqa: PLC0415

    raise typer.Exit(verify_bundle.verify(folder, digest))


@app.command()
def dashboard(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a file differs.")
    ] = False,
) -> None:
    """Write the Grafana dashboard and the Helm chart's copies."""
    from dlild_deploy.grafana_dashboard import stale_outputs, write_outputs  # noqa: PLC0415

    if not check:
        for path in write_outputs():
            print(f"wrote {path.name}")
        return
    stale = stale_outputs()
    for path in stale:
        _print_error(f"error: {path.name} is not as it is made: run `make dashboard`")
    raise typer.Exit(FAILED if stale else 0)


# ---- entry ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 2 usage, 3 a scan cannot be scored, 130 interrupted. Every
        error is one line on standard error.
    """
    words = None if arguments is None else list(arguments)
    try:
        code = app(args=words, prog_name="dlild-deploy", standalone_mode=False)
    except (KeyboardInterrupt, Stopped, typer.Abort):
        _print_error("error: interrupted")
        return INTERRUPTED
    except Exception as error:
        exit_code = _exit_code_of(error)
        # Where a group is called without a command, its help is the message.
        if message := _message_of(error):
            _print_error(f"error: {message}")
        return exit_code
    return code if isinstance(code, int) else 0


def run() -> None:
    """Run the command of this process; Ctrl-C and SIGTERM stop it in order."""
    stop_on_signals()
    sys.exit(main())


def _exit_code_of(error: Exception) -> int:
    """Return the exit code of an error that a user can fix; raise any other again."""
    if isinstance(error, DeployError | OSError):
        return FAILED
    # The client's errors, without importing the client for commands that do without it.
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        raise error
    return code


def _message_of(error: Exception) -> str:
    """Return what a user reads; click's complaints format themselves."""
    formatted = getattr(error, "format_message", None)
    return str(formatted()) if formatted is not None else str(error)


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
