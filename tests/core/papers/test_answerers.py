"""Answers over the chat-completions interface, from a real server on 127.0.0.1."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from bench.papers import answerers
from bench.papers.answerers import ChatAnswerer, answerer_of
from bench.papers.trouble import Trouble

QUESTION = "Does this image meet the description 'a red cup'?"


class ReddishJudge(BaseHTTPRequestHandler):
    """Answers as local servers of language models do: yes where the picture that it is sent is more red than blue."""

    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.server.failures:
            self.reply(*self.server.failures.pop(0))
            return
        url = body["messages"][0]["content"][0]["image_url"]["url"]
        data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
        red, _, blue = np.asarray(Image.open(io.BytesIO(data))).reshape(-1, 3).mean(0)
        self.reply(200, {"choices": [{"message": {"content": "yes" if red > blue else "no"}}]})

    def reply(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(answerers, "WAIT_SECONDS", 0.01)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ReddishJudge)
    server.models, server.bodies, server.failures = ["red-judge"], [], []
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


RED, BLUE = Image.new("RGB", (40, 30), (200, 10, 10)), Image.new("RGB", (40, 30), (10, 10, 200))


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_a_picture_is_asked_about(server, tail):
    judge = answerer_of(server.address + tail)
    assert isinstance(judge, ChatAnswerer)
    assert [judge.ask(picture, QUESTION) for picture in (RED, BLUE)] == ["yes", "no"]
    assert judge.name == f"red-judge at {server.address}"
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("red-judge", 0, 128)
    assert body["messages"][0]["content"][1] == {"type": "text", "text": QUESTION}


def test_a_busy_server_is_asked_again(server):
    server.failures = [(503, {"error": "loading"}), (429, {"error": "busy"})]
    assert ChatAnswerer(server.address).ask(RED, QUESTION) == "yes"


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ([(400, {"error": "this model sees no pictures"})], "refused with 400: .*sees no pictures"),
        ([(500, {"error": "out of memory"})] * 3, "refused with 500: .*out of memory"),
        ([(200, {"choices": []})], "gave no answer, but .*choices"),
        ([(200, {"choices": [{"message": {"content": None}}]})], "gave no answer"),
    ],
)
def test_what_is_no_answer_is_told(server, failures, words):
    server.failures = failures
    with pytest.raises(Trouble, match=words):
        ChatAnswerer(server.address).ask(RED, QUESTION)


def test_several_models_want_a_name(server):
    server.models = ["one", "two"]
    with pytest.raises(Trouble, match="has 2: one, two. Name one with --judge-model"):
        ChatAnswerer(server.address)
    assert ChatAnswerer(server.address, "two").ask(RED, QUESTION) == "yes"
    assert server.bodies[0]["model"] == "two"


def test_nobody_there_is_told(server):
    address = server.address
    server.shutdown()
    server.server_close()
    with pytest.raises(Trouble, match=f"No judge answers at {address}/v1 .* Is it running"):
        ChatAnswerer(address)
