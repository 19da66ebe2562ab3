"""Child processes: started with what is missing said in one line."""

import pytest

from dlild_deploy import supervisor
from dlild_deploy.errors import LauncherError


def test_a_machine_without_setpriv_is_reported_with_what_to_install(monkeypatch):
    monkeypatch.setattr(supervisor.shutil, "which", lambda *_, **__: None)
    with pytest.raises(LauncherError, match="apt-get install util-linux"):
        supervisor.with_parent_death_signal(["true"])
