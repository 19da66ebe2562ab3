"""The proxy's configuration: HAProxy takes it, and it opens what clients use and no more."""

import inspect
import json
import os
import re
import subprocess

import pytest
from deploy.checkers import DEPLOY

from dlild_client import core
from dlild_deploy.certificates import issue_certificates
from dlild_deploy.errors import LauncherError
from dlild_deploy.proxy import api_keys
from dlild_deploy.proxy import haproxy as haproxy_module
from dlild_deploy.proxy.cluster import make_servers
from dlild_deploy.proxy.haproxy import Backend, Proxy, find_haproxy, servers_cfg

PROXY = DEPLOY / "proxy"
SERVICE = "/inference.GRPCInferenceService/"
CONFIG = (PROXY / "haproxy.cfg").read_text()


@pytest.fixture(scope="module")
def haproxy():
    try:
        return find_haproxy()
    except LauncherError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    issue_certificates.make(folder, [], ["trial"], 2)
    api_keys.add_key(folder / "keys.map", {}, "trial")
    return folder


def check(haproxy, papers, servers, **settings):
    variables = {
        **os.environ,
        "DLILD_PROXY_FOLDER": str(PROXY),
        "DLILD_TLS_FOLDER": str(papers),
        "DLILD_KEYS": str(papers / "keys.map"),
        **settings,
    }
    command = [haproxy, "-c", "-f", str(PROXY / "haproxy.cfg"), "-f", str(servers)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"DLILD_TLS": "mutual"},
        {"DLILD_SERVER_KEY": "a-key"},
        {"DLILD_SOURCE_CALLS": "5", "DLILD_SILENT_S": "4", "DLILD_DRAIN_S": "9"},
    ],
)
def test_haproxy_takes_the_configuration_without_a_warning(haproxy, papers, tmp_path, settings):
    servers = tmp_path / "servers.cfg"
    servers.write_text(servers_cfg([Backend("a", 9001, 9000), Backend("b", 9011, 9010)]))
    done = check(haproxy, papers, servers, **settings)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_a_setting_that_is_none_is_refused(haproxy, papers):
    done = check(haproxy, papers, PROXY / "servers.cfg", DLILD_SOURCE_CALLS="many")
    assert done.returncode == 1
    assert "many" in done.stderr


def test_the_methods_that_are_open_are_those_that_clients_use():
    opened = set(re.findall(rf"path {SERVICE}(\w+)", CONFIG))
    called = set(re.findall(r'\.call\(\s*"(\w+)"', inspect.getsource(core)))
    assert called == {"ServerMetadata", "ModelReady", "ModelConfig"}
    assert called | {"ModelStreamInfer", "ModelInfer"} <= opened
    closed = ("SharedMemory", "Repository", "Trace", "Log")
    assert not [name for name in opened if any(word in name for word in closed)]


def test_the_bounds_leave_space_for_what_the_contract_allows(repository):
    contract = json.loads((repository / "contract.json").read_text())
    source = (PROXY / "messages.lua").read_text()
    sizes = [int(mib) * 2**20 for mib in re.findall(r"(\d+) \* 1024 \* 1024", source)]
    window, scan = sizes
    # FP16 windows and INT16 scans, two bytes a voxel.
    assert 2 * contract["windows"]["maximum_voxels"] < window
    assert 2 * contract["limits"]["box_voxels"] < scan


# HAProxy is the Lua interpreter here: it runs what it loads, and tells of errors.
CUT_UP = """
local made
core.register_filter = function(_, class) made = class end
dofile("%(lua)s")

local function content_of(blocks)
    local whole = table.concat(blocks)
    local content = {}
    function content:input() return #whole end
    -- As HAProxy 2.6 does it: so many bytes of every block from the offset on.
    function content:body(offset, length)
        local found, passed = "", 0
        for _, block in ipairs(blocks) do
            local first = math.max(0, offset - passed)
            found = found .. block:sub(first + 1, first + length)
            passed = passed + #block
        end
        return found
    end
    return content
end

local function message(length) return string.pack(">BI4", 0, length) end
local good = message(3) .. "abc" .. message(0) .. message(9) .. "ninebytes"
local long = message(3) .. "abc" .. message(1 << 30)
for cut = 0, #good do
    for other = cut, #good do
        local filter = made:new()
        filter:http_payload(nil, content_of({good:sub(1, cut), good:sub(cut + 1, other)}))
        filter:http_payload(nil, content_of({good:sub(other + 1)}))
        assert(filter.left == 0 and filter.prefix == "", "cut at " .. cut .. " and " .. other)
    end
end
for cut = 0, #long do
    local blocks = content_of({long:sub(1, cut), long:sub(cut + 1)})
    local taken, said = pcall(made.http_payload, made:new(), nil, blocks)
    assert(not taken and said:find("a message of 1073741824 bytes"), "long, cut at " .. cut)
end
"""


def test_messages_are_bounded_wherever_a_buffer_cuts_them(haproxy, tmp_path):
    script = tmp_path / "cut.lua"
    script.write_text(CUT_UP % {"lua": PROXY / "messages.lua"})
    (tmp_path / "cut.cfg").write_text(f"global\n  lua-load {script}\n")
    command = [haproxy, "-c", "-f", str(tmp_path / "cut.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "[ALERT]" not in done.stderr, done.stderr


def test_every_setting_is_in_the_table_and_the_table_has_no_other():
    lua = (PROXY / "messages.lua").read_text()
    used = set(re.findall(r"\bDLILD_[A-Z_]+", CONFIG + lua))
    table = set(re.findall(r"`(DLILD_[A-Z_]+)`", (PROXY / "README.md").read_text()))
    others = {"DLILD_HTTP_ADDRESS", "DLILD_ANSWER_S"}  # of servers and clients
    assert table - others == used - others


def test_the_defaults_in_the_table_are_those_of_the_configuration():
    rows = re.findall(
        r"^\| (`DLILD.*?) \| `?([^`|]+?)`? \|", (PROXY / "README.md").read_text(), re.M
    )
    for names, default in rows:
        for name in re.findall(r"DLILD_[A-Z_]+", names):
            for found in re.findall(rf"\${{{name}-([^}}]+)}}", CONFIG):
                assert found == default, name


@pytest.mark.parametrize("count", [0, -1, 99])
def test_a_number_of_servers_that_no_machine_holds_is_refused(count):
    with pytest.raises(LauncherError, match="give 1 to"):
        make_servers(count)


def test_ports_follow_each_other_and_cores_are_shared_out():
    first, second = make_servers(2, base_port=8100, threads=3)
    assert (first.http_port, first.grpc_port, first.metrics_port) == (8100, 8101, 8102)
    assert second.http_port == 8110
    assert {first.threads, second.threads} == {3}


def test_without_haproxy_one_line_says_what_to_do(monkeypatch, papers, tmp_path):
    monkeypatch.setattr(haproxy_module.shutil, "which", lambda *_, **__: None)
    with pytest.raises(LauncherError, match="apt-get install haproxy"):
        Proxy(papers, papers / "keys.map").start([])


def test_without_certificates_one_line_says_what_to_do(haproxy, tmp_path):
    with pytest.raises(LauncherError, match="run `make certs`"):
        Proxy(tmp_path, tmp_path / "keys.map", port=0).start([])


def test_a_proxy_that_finds_no_server_is_an_error_and_leaves_nothing(haproxy, papers, monkeypatch):
    monkeypatch.setattr(haproxy_module, "READY_TIMEOUT_S", 1.0)
    proxy = Proxy(papers, papers / "keys.map", port=0)
    with pytest.raises(LauncherError, match="the proxy was not ready after 1 s"):
        proxy.start([Backend("nobody", 1, 1)])
    assert proxy.pid is None
