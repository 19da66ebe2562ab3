import socket
import threading
from urllib.parse import urlsplit

import pytest
from proxy import Proxy


@pytest.fixture
def echo():
    """A server that sends back what it gets; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(end,), daemon=True).start()

    def answer(end):
        with end:
            try:
                while data := end.recv(1 << 16):
                    end.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def connect(proxy):
    address = urlsplit(proxy.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def receive(end, count):
    got = b""
    while len(got) < count:
        got += end.recv(count - len(got))
    return got


def test_bytes_are_passed_on_and_counted(echo):
    data = bytes(range(256)) * 5000
    with Proxy(echo) as proxy, connect(proxy) as client:
        threading.Thread(target=client.sendall, args=(data,)).start()
        assert receive(client, len(data)) == data
        client.sendall(b"more")
        assert receive(client, 4) == b"more"
        assert (proxy.sent, proxy.received) == (len(data) + 4, len(data) + 4)


def test_a_cut_line_is_reset_and_nobody_is_taken_any_more(echo):
    with Proxy(echo) as proxy:
        client = connect(proxy)
        client.sendall(b"abc")
        receive(client, 3)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
