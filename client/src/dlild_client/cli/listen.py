"""`dlild listen`: a DICOM node that scores what it receives; `dlild queue`: what it has to do."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dlild_client.cli.options import BY_TYPER, AsJson, ServerOptions, path_option
from dlild_client.cli.screen import print_table

DICOM_TLS = "TLS between DICOM nodes"
LIMITS = "Limits"
COMMITMENT = "Storage commitment"
NO_PORT = -1


def listen(
    aet: Annotated[str, typer.Option(help="AE title of this node.")],
    destination: Annotated[
        str,
        typer.Option(help="Where results go: AET@host:port, or dicomweb+https://host/path."),
    ],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="AE title that may send, or its address AET@host:port, where reports of storage "
            "commitment go; repeat the option, or separate by commas. Others are rejected."
        ),
    ] = None,
    any_peer: Annotated[
        bool, typer.Option("--any-peer", help="Take objects of every AE title: for a trial.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 11112,
    spool: Annotated[
        Path, typer.Option(help="Folder of the queue and of what is received.", readable=BY_TYPER)
    ] = Path("dlild-spool"),
    quiet_s: Annotated[
        float,
        typer.Option(help="Seconds without a new object after which a study is complete."),
    ] = 60.0,
    kinds: Annotated[
        str, typer.Option(help="Objects of a result: seg, labelmap, sr, capture, pdf.")
    ] = "seg,sr,capture",
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Leave identity out of the results.")
    ] = False,
    scans: Annotated[int, typer.Option(help="Studies scored at once.", min=1)] = 1,
    http_host: Annotated[str, typer.Option(help="Address of /healthz and /metrics.")] = "127.0.0.1",
    http_port: Annotated[
        int, typer.Option(help="Port of /healthz and /metrics; -1 for none.")
    ] = 11113,
    request_commitment: Annotated[
        bool,
        typer.Option(
            "--request-commitment",
            help="Ask the destination to commit itself to each result; until its report comes, a "
            "study is not done.",
            rich_help_panel=COMMITMENT,
        ),
    ] = False,
    report_commitment: Annotated[
        bool,
        typer.Option(
            "--report-commitment",
            help="Answer senders that ask which objects this node holds. It removes them after "
            "--keep-h hours: no sender may delete its own on this report.",
            rich_help_panel=COMMITMENT,
        ),
    ] = False,
    keep_h: Annotated[
        float,
        typer.Option(
            help="Hours that the objects of an answered study are kept.", rich_help_panel=LIMITS
        ),
    ] = 24.0,
    keep_failed_h: Annotated[
        float,
        typer.Option(
            help="Hours that the objects of a failed study are kept.", rich_help_panel=LIMITS
        ),
    ] = 168.0,
    give_up_h: Annotated[
        float,
        typer.Option(
            help="Hours after which a study that cannot be scored or sent has failed.",
            rich_help_panel=LIMITS,
        ),
    ] = 72.0,
    spool_gib: Annotated[
        float, typer.Option(help="Most GiB of received objects.", rich_help_panel=LIMITS)
    ] = 100.0,
    free_gib: Annotated[
        float, typer.Option(help="Least free GiB of the disk.", rich_help_panel=LIMITS)
    ] = 2.0,
    object_gib: Annotated[
        float, typer.Option(help="Largest object in GiB.", rich_help_panel=LIMITS)
    ] = 1.0,
    associations: Annotated[
        int, typer.Option(help="Most associations at once.", min=1, rich_help_panel=LIMITS)
    ] = 16,
    drain_s: Annotated[
        float,
        typer.Option(
            help="Seconds that a stop waits for scans and sends under way.", rich_help_panel=LIMITS
        ),
    ] = 60.0,
    listen_cert: Annotated[
        Path | None, path_option("Certificate of this node, PEM.", DICOM_TLS)
    ] = None,
    listen_key: Annotated[Path | None, path_option("Its private key, PEM.", DICOM_TLS)] = None,
    listen_ca: Annotated[
        Path | None,
        path_option(
            "Authorities of the senders' certificates, which they must show then.", DICOM_TLS
        ),
    ] = None,
    destination_ca: Annotated[
        Path | None,
        path_option("Authorities of the destination's certificate: turns TLS to it on.", DICOM_TLS),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Receive chest CTs as a DICOM node, score each study, and send the results on.

    SIGTERM and Ctrl-C stop it: what is not done is done after the next start.
    """
    from dlild_client.archive.addresses import parse_destination  # noqa: PLC0415
    from dlild_client.archive.node import Node, run_until_stopped  # noqa: PLC0415
    from dlild_client.archive.node_settings import (  # noqa: PLC0415
        HOUR_S,
        NodeSettings,
        client_tls,
        gib_to_bytes,
        parse_senders,
        server_tls,
    )
    from dlild_client.archive.scoring import ServerScorer  # noqa: PLC0415
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415
    from dlild_client.results.dicom.objects import KINDS  # noqa: PLC0415

    senders, peers = parse_senders(peer or [])
    if not senders and not any_peer:
        raise BadSettingsError(
            "whose objects are taken? give --peer with the AE title of each sender, or --any-peer "
            "for a trial"
        )
    wanted = tuple(kind.strip() for kind in kinds.split(","))
    for kind in wanted:
        if kind not in KINDS:
            raise BadSettingsError(f"--kinds: no object {kind!r}; there are {', '.join(KINDS)}")
    settings = NodeSettings(
        title=aet,
        host=host,
        port=port,
        spool=spool,
        destination=parse_destination(destination),
        senders=() if any_peer else senders,
        peers=peers,
        quiet_s=quiet_s,
        kinds=wanted,
        anonymous=anonymous,
        request_commitment=request_commitment,
        report_commitment=report_commitment,
        scans=scans,
        keep_s=keep_h * HOUR_S,
        keep_failed_s=keep_failed_h * HOUR_S,
        give_up_s=give_up_h * HOUR_S,
        object_bytes=gib_to_bytes("--object-gib", object_gib),
        spool_bytes=gib_to_bytes("--spool-gib", spool_gib),
        free_bytes=gib_to_bytes("--free-gib", free_gib),
        associations=associations,
        drain_s=drain_s,
        tls=server_tls(listen_cert, listen_key, listen_ca),
        destination_tls=client_tls(destination_ca, listen_cert, listen_key),
        http_host=http_host,
        http_port=None if http_port == NO_PORT else http_port,
    )
    os.umask(0o077)
    run_until_stopped(Node(settings, ServerScorer(server.settings(), wanted, anonymous=anonymous)))


def queue(
    spool: Annotated[Path, typer.Argument(help="Spool folder of a node.", readable=BY_TYPER)],
    retry: Annotated[
        str | None,
        typer.Option(help="Digest of a failed study that is tried again, or `all`."),
    ] = None,
    find: Annotated[
        str | None, typer.Option(help="UID of a study: print its digest and state only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the studies of a node, running or not, by digest: state, tries, last error."""
    from dlild_client.archive.queue import Queue, digest_of  # noqa: PLC0415
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415

    path = spool / "queue.sqlite3"
    if not path.is_file():
        raise BadSettingsError(f"{spool.name or spool}: no spool folder of a node")
    opened = Queue(path)
    if retry is not None:
        count = opened.retry(None if retry == "all" else retry)
        print(f"{count} stud{'y is' if count == 1 else 'ies are'} tried again")
        return
    studies = opened.studies()
    if find is not None:
        studies = [study for study in studies if study.id == digest_of(find)]
    if as_json:
        names = ("id", "state", "objects", "bytes", "tries", "answers", "error_kind", "error")
        rows = [
            {n: getattr(s, n) for n in names} | {"received": _time(s.received_at)} for s in studies
        ]
        print(json.dumps(rows, indent=2))
        return
    print_table(
        "Studies of the node",
        ("study", "state", "received", "objects", "tries", "error"),
        [
            (s.id, s.state, _time(s.received_at), str(s.objects), str(s.tries), s.error)
            for s in studies
        ],
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
