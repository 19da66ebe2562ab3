"""Certificates for TLS from a private authority: make, renew, and check them (``make certs``).

    python deploy/certs/certs.py certs --name dlild.hospital.example --name 10.0.0.5 --client ward-3
    python deploy/certs/certs.py certs --renew tls
    python deploy/certs/certs.py certs --check

Nothing is overwritten: what is there is kept, and a renewal keeps the old pair in ``old/``. Needs
the Python package ``cryptography``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from authority import Authority
from certfiles import CLIENT, SERVER, CertificateError, Entry, entries

ALWAYS = ("localhost", "127.0.0.1", "::1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when all is well; 1 when a certificate ends too soon, or something is wrong.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.check:
            return check(options.folder, options.within)
        if options.renew:
            renew(options.folder, options.renew, options.days)
        else:
            make(options.folder, options.name, options.client, options.days)
    except CertificateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(folder: Path, names: Sequence[str], clients: Sequence[str], days: int) -> None:
    """Make what is missing of authority, server and clients.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        Host names and addresses of the server, beside those of loopback.
    clients : sequence of str
    days : int
        Life of what is made.

    Raises
    ------
    CertificateError
        A file or name is wrong, or the server's certificate is there for other names.
    """
    authority = Authority(folder)
    print(f"{'made' if authority.is_new else 'kept':8}{folder / 'ca.crt'}")
    wanted = dict.fromkeys([*names, *ALWAYS])
    if (folder / f"{SERVER}.crt").exists():
        _keep(entries(folder), names)
    else:
        _tell("made", authority.issue_server(list(wanted), days))
    for client in clients:
        if (folder / f"{CLIENT}{client}.crt").exists():
            print(f"{'kept':8}{folder / f'{CLIENT}{client}.crt'}")
        else:
            _tell("made", authority.issue_client(client, days))


def renew(folder: Path, stems: Sequence[str], days: int) -> None:
    """Renew certificates by name, for the same names, with new keys.

    Raises
    ------
    CertificateError
    """
    if not folder.is_dir():
        raise CertificateError(f"{folder} is not there: give the folder that `make certs` has made")
    authority = Authority(folder)
    for stem in stems:
        _tell("renewed", authority.renew(stem.removesuffix(".crt"), days))


def check(folder: Path, within: int) -> int:
    """Print the days that are left to every certificate.

    Parameters
    ----------
    folder : Path
    within : int
        Days that must be left.

    Returns
    -------
    int
        1 where one has fewer.

    Raises
    ------
    CertificateError
        There is none, or a file is no certificate.
    """
    soon = 0
    for entry in entries(folder):
        ends_soon = entry.days_left < within
        soon += ends_soon
        word = "ENDED" if entry.days_left < 0 else "SOON" if ends_soon else "ok"
        print(f"{word:6}{entry.days_left:6} days  {entry.ends:%Y-%m-%d}  {entry.path}")
    return int(soon > 0)


def _keep(found: Sequence[Entry], names: Sequence[str]) -> None:
    (server,) = (entry for entry in found if entry.path.stem == SERVER)
    missing = [name for name in names if name not in server.names]
    if missing:
        raise CertificateError(
            f"{server.path} is for {', '.join(server.names)}, not for {', '.join(missing)}: "
            "move it and its key away and run this again"
        )
    print(f"{'kept':8}{server.path}")


def _tell(word: str, entry: Entry) -> None:
    names = f"  for {', '.join(entry.names)}" if entry.names else ""
    print(f"{word:8}{entry.path}  until {entry.ends:%Y-%m-%d}{names}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where they are kept")
    parser.add_argument(
        "--name", action="append", default=[], help="of the server: host or address"
    )
    parser.add_argument("--client", action="append", default=[], help="name of a client")
    parser.add_argument("--days", type=int, default=365, help="life of what is made or renewed")
    parser.add_argument("--renew", action="append", metavar="NAME", help="tls, or client-NAME")
    parser.add_argument("--check", action="store_true", help="print the days that are left")
    parser.add_argument(
        "--within", type=int, default=30, help="days that --check wants to see left"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
