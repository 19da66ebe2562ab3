"""Make, renew and check the certificates of a folder: `dlild-deploy certs`, ``make certs``.

Nothing is overwritten: existing files are kept, and a renewal keeps the old pair in ``old/``.
"""

from collections.abc import Sequence
from pathlib import Path

from dlild_deploy.certificates.authority import Authority
from dlild_deploy.certificates.certificate_files import CLIENT, SERVER, Entry, entries
from dlild_deploy.errors import CertificateError

ALWAYS = ("localhost", "127.0.0.1", "::1")


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
        _report("made", authority.issue_server(list(wanted), days))
    for client in clients:
        if (folder / f"{CLIENT}{client}.crt").exists():
            print(f"{'kept':8}{folder / f'{CLIENT}{client}.crt'}")
        else:
            _report("made", authority.issue_client(client, days))


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
        _report("renewed", authority.renew(stem.removesuffix(".crt"), days))


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
        The folder has no certificate, or a file is not one.
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


def _report(word: str, entry: Entry) -> None:
    names = f"  for {', '.join(entry.names)}" if entry.names else ""
    print(f"{word:8}{entry.path}  until {entry.ends:%Y-%m-%d}{names}")
