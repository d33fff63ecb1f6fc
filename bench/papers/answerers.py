"""Models that look at a picture and answer: behind the chat-completions interface, or by transformers here."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
from typing import Any

import torch
from PIL import Image

from .detectors import best_device, load
from .protocol import ANSWER_TOKENS
from .trouble import Trouble

TRIES, WAIT_SECONDS = 3, 2.0  # a server that is busy or starting is asked again
TIMEOUT_SECONDS = 600


class ChatAnswerer:
    """A model behind the chat-completions interface that local servers of language models offer.

    Args:
        address: http://127.0.0.1:8000, with or without /v1.
        model: by the server's name for it; "" takes the only one that it lists.
    """

    def __init__(self, address: str, model: str = ""):
        self._url = address.rstrip("/").removesuffix("/v1") + "/v1"
        self.model = model or self._only_model()
        self.name = f"{self.model} at {self._url.removesuffix('/v1')}"

    def _only_model(self) -> str:
        listed = self._asked("/models")
        try:
            models = [entry["id"] for entry in listed["data"]]
        except (KeyError, TypeError):
            raise Trouble(f"{self._url}/models gave no list of models, but {_short(listed)}.") from None
        if len(models) != 1:
            has = f"{len(models)}: {', '.join(models)}" if models else "none"
            raise Trouble(f"Which model shall judge? {self._url} has {has}. Name one with --judge-model.")
        return models[0]

    def ask(self, picture: Image.Image, question: str) -> str:
        """Return the answer as it was given.

        Raises:
            Trouble: the server does not answer, or something else than an answer.
        """
        file = io.BytesIO()
        picture.save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
        }
        reply = self._asked("/chat/completions", body)
        try:
            answer = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            answer = None
        if not isinstance(answer, str):
            raise Trouble(f"{self._url} gave no answer, but {_short(reply)}.")
        return answer

    def _asked(self, path: str, body: dict | None = None) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        for turn in range(TRIES):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode(errors="replace").strip()
                trouble = f"{self._url}{path} refused with {error.code}: {said or error.reason}"
                if error.code < 500 and error.code != 429:
                    raise Trouble(trouble) from None
            except ValueError as error:
                raise Trouble(f"{self._url}{path} gave no JSON: {error}.") from None
            except OSError as error:
                trouble = (
                    f"No judge answers at {self._url} ({getattr(error, 'reason', None) or error}). Is it running, and "
                    "reachable from here?"
                )
            if turn < TRIES - 1:
                time.sleep(WAIT_SECONDS)
        raise Trouble(trouble)


class LocalAnswerer:
    """A vision language model by transformers, in this process, as DEIG-Bench's script runs Qwen2.5-VL.

    Args:
        name: on the Hugging Face Hub, or a folder.
    """

    def __init__(self, name: str, device: torch.device | None = None):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.name = name
        self._device = device or best_device()
        model, self._processor = load(
            "judge",
            name,
            lambda name: AutoModelForImageTextToText.from_pretrained(name, dtype="auto"),
            AutoProcessor.from_pretrained,
        )
        self._model = model.to(self._device).eval()

    @torch.no_grad()
    def ask(self, picture: Image.Image, question: str) -> str:
        """Return the answer as it was given."""
        content = [{"type": "image", "image": picture.convert("RGB")}, {"type": "text", "text": question}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._device)
        # What the model's own settings say of sampling stands, as in the script.
        tokens = self._model.generate(**inputs, max_new_tokens=ANSWER_TOKENS)
        answer = tokens[:, inputs["input_ids"].shape[1] :]
        return self._processor.batch_decode(answer, skip_special_tokens=True)[0]


def answerer_of(judge: str, model: str = "") -> ChatAnswerer | LocalAnswerer:
    """Return the answerer at an address, or the one in a folder or on the Hub."""
    if judge.startswith(("http://", "https://")):
        return ChatAnswerer(judge, model)
    return LocalAnswerer(judge)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
