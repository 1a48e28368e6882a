import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import timm
from huggingface_hub import constants

from fgvc.errors import FgvcError
from fgvc.methods import weights_server
from fgvc.methods.backbone import Backbone
from fgvc.methods.weights_server import asked_once


class Refusing(BaseHTTPRequestHandler):
    """A server that is there, whatever it says."""

    def do_HEAD(self):
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_server_that_answers_is_asked(online, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    with asked_once() as silent:
        assert silent == "" and not constants.HF_HUB_OFFLINE
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("listens", [True, False])
def test_a_silent_server_is_given_up_and_the_cache_alone_is_looked_at(online, monkeypatch, listens):
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    if listens:
        door.listen()  # takes the call and never says a word
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{door.getsockname()[1]}")
    monkeypatch.setattr(weights_server, "PATIENCE", 0.2)
    asked = []

    def download(*_, **options):
        asked.append((options["pretrained"], constants.HF_HUB_OFFLINE))
        raise OSError("cannot find the requested files")

    monkeypatch.setattr(timm, "create_model", download)
    with pytest.raises(FgvcError) as caught:
        Backbone(64, "resnet18", "pretrained")
    door.close()
    assert asked == [(True, True)] and not constants.HF_HUB_OFFLINE
    assert "could not be had (no answer from 127.0.0.1, and not in the cache); give a local" in str(caught.value)
    assert str(caught.value).endswith("--model.recognizer.backbone.weights FILE")


def test_nobody_is_asked_where_the_user_said_so_or_wants_no_weights(monkeypatch):
    monkeypatch.setattr(weights_server, "get_session", lambda: pytest.fail("the network was asked"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with asked_once() as silent:
        assert silent == "" and constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert Backbone(64, "test_resnet", "none").channels == 96
