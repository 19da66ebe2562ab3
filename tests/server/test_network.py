import pytest

from contract.refusals import BusyError, FailedError, GoneError, RefusedError
from network import network_error


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        ("Model ild_unet - REFUSED: window holds nan", RefusedError, "REFUSED: window holds nan"),
        ("FAILED: KeyError in the network", FailedError, "FAILED: KeyError in the network"),
        ("Exceeds maximum queue size", BusyError, "BUSY: the queue of the network is full"),
        ("Request timeout expired", BusyError, "BUSY: the queue of the network is full"),
        ("Error when running inference: Server not ready", GoneError, "GONE: the network is"),
        ("Stub process 'ild_unet_0_0' is not healthy.", GoneError, "GONE: the network is"),
        ("onnx runtime error 6: non-zero status", FailedError, "FAILED: the network failed"),
    ],
)
def test_what_the_network_says_becomes_a_refusal_with_a_code(message, kind, says):
    error = network_error(message)
    assert type(error) is kind
    assert str(error).startswith(says)
