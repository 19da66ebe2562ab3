"""The proxy's list of keys: digests only, and every change as a whole."""

import hashlib
import stat

import pytest

from dlild_deploy import cli
from dlild_deploy.proxy import api_keys


@pytest.fixture
def file(tmp_path):
    return tmp_path / "secrets" / "keys.map"


def run(capsys, file, *words):
    code = cli.main(["keys", words[0], str(file), *words[1:]])
    told = capsys.readouterr()
    return code, told.out.strip(), told.err


def test_a_key_is_shown_once_and_kept_as_its_digest(file, capsys):
    _, key, _ = run(capsys, file, "add", "ward-3")
    assert len(key) == 64
    assert file.read_text() == f"{hashlib.sha256(key.encode()).hexdigest()} ward-3\n"
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_keys_of_one_name_hold_side_by_side_until_one_is_removed(file, capsys):
    _, old, _ = run(capsys, file, "add", "ward-3")
    _, new, _ = run(capsys, file, "add", "ward-3")
    digests = {word: hashlib.sha256(word.encode()).hexdigest() for word in (old, new)}
    assert set(api_keys.read_keys(file)) == set(digests.values())
    assert run(capsys, file, "remove", digests[old][:12])[0] == 0
    assert set(api_keys.read_keys(file)) == {digests[new]}
    _, listed, _ = run(capsys, file, "list")
    assert listed == f"{digests[new][:12]}  ward-3"


def test_remove_takes_all_of_a_name_and_no_other(file, capsys):
    for name in ("ward-3", "ward-3", "ward-30"):
        run(capsys, file, "add", name)
    assert run(capsys, file, "remove", "ward-3")[0] == 0
    assert set(api_keys.read_keys(file).values()) == {"ward-30"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("remove", "nobody"), "has no key nobody"),
        (("add", "two words"), "no name"),
        (("add", "a\nb"), "no name"),
    ],
)
def test_what_is_wrong_is_one_line(file, capsys, words, says):
    code, _, error = run(capsys, file, *words)
    assert code == 1
    assert says in error
    assert error.count("\n") == 1


def test_a_line_that_is_none_is_named(file, capsys):
    run(capsys, file, "add", "ward-3")
    file.write_text(file.read_text() + "a-key-in-the-clear ward-4\n")
    code, _, error = run(capsys, file, "add", "ward-5")
    assert code == 1
    assert "line 2" in error
    assert "a-key-in-the-clear" not in error
