"""The hub, played by a small server on the loopback address; the real client asks it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from safetensors.torch import load

from minbert import BertModel
from minbert.weights.resolve import find_locally
from tests import forked

COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """One model, me/whole; me/gated is refused, me/cut hangs up, any other is not there."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    fetched: list[str] = []  # noqa: RUF012
    tokens: set[str | None] = set()  # noqa: RUF012

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if "/me/" in path:  # the client asks for other things of its own
            self.tokens.add(self.headers.get("Authorization"))
        name = path.rsplit("/", 1)[1]
        if "me/cut" in path:
            self.close_connection = True
        elif "me/gated" in path:
            self.answer(401, b"{}", ("X-Error-Code", "GatedRepo"))
        elif "me/whole" not in path:
            self.answer(404, b"{}", ("X-Error-Code", "RepoNotFound"))
        elif "/resolve/" in path:
            self.fetched += [name] if self.command == "GET" else []
            self.answer(200, self.files[name], ("ETag", f'"{name}"'), ("X-Repo-Commit", COMMIT))
        elif "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(body), "oid": name}
                for name, body in self.files.items()
            ]
            self.answer(200, json.dumps(listed).encode())
        else:
            self.answer(200, json.dumps({"id": "me/whole", "sha": COMMIT}).encode())

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(tiny: BertModel, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that takes it for the hub."""
    tiny.save_pretrained(tmp_path / "model")
    Hub.files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    Hub.files |= {"vocab.txt": b"[PAD]\n", "README.md": b"long", "pytorch_model.bin": b"long"}
    Hub.fetched, Hub.tokens = [], set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    server.shutdown()
    server.server_close()


def asked(hub: dict[str, str], *names: str) -> list[str]:
    """Ask in a process of its own: the client reads its environment when it is imported."""
    folder = Path(hub["HF_HOME"]) / "here"
    folder.mkdir(exist_ok=True)
    outcome = forked.Command("ask-hub", [*names], folder, environment=hub).finish()
    assert outcome.code == 0, outcome
    return outcome.out.splitlines()


def test_what_the_hub_has_and_says(hub: dict[str, str]) -> None:
    whole, gated, none, cut = asked(hub, "me/whole", "me/gated", "me/none", "me/cut")
    assert sorted(Hub.fetched) == ["config.json", "model.safetensors", "vocab.txt"]
    assert Hub.tokens == {"Bearer hf_secret"}
    for name in Hub.fetched:
        assert (Path(whole) / name).read_bytes() == Hub.files[name]
    assert "does not show 'me/gated' (401)" in gated and "HF_TOKEN needs a token" in gated
    assert "the hub has no 'me/none' (404)" in none
    assert "'me/cut' could not be fetched from the hub (" in cut
    (Path(whole) / "vocab.txt").unlink()  # no longer whole: it is asked for again
    (offline,) = asked({**hub, "HF_HUB_OFFLINE": "1"}, "me/whole")
    assert "HF_HUB_OFFLINE is set, so the hub was not asked" in offline
    assert asked(hub, "me/whole") == [whole] and (Path(whole) / "vocab.txt").is_file()


def test_a_model_of_the_hub_without_weights_that_are_read(hub: dict[str, str]) -> None:
    del Hub.files["model.safetensors"], Hub.files["pytorch_model.bin"]
    assert "the hub's 'me/whole' has neither" in asked(hub, "me/whole")[0]


def test_shards_and_what_stands_beside_a_vocabulary_are_fetched(hub: dict[str, str]) -> None:
    """And found again in the cache, without asking."""
    Hub.files["model-00001-of-00001.safetensors"] = Hub.files.pop("model.safetensors")
    names = load(Hub.files["model-00001-of-00001.safetensors"])
    shards = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    Hub.files["model.safetensors.index.json"] = json.dumps(shards).encode()
    del Hub.files["pytorch_model.bin"]
    Hub.files |= {"added_tokens.json": b"{}", "special_tokens_map.json": b"{}"}
    (whole,) = asked(hub, "me/whole")
    wanted = {"added_tokens.json", "special_tokens_map.json", "model.safetensors.index.json"}
    assert wanted <= {path.name for path in Path(whole).iterdir()}
    assert BertModel.from_pretrained(whole).config.hidden_size
    assert asked({**hub, "HF_HUB_OFFLINE": "1"}, "me/whole") == [whole]
    shard = Path(whole) / "model-00001-of-00001.safetensors"
    shard.unlink()  # as a download leaves it that was cut short: it goes on
    assert asked(hub, "me/whole") == [whole] and shard.is_file()


def test_a_packaged_model_is_found_by_its_whole_name_alone() -> None:
    """And not by a mistyped path to another model that is called so."""
    names = ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
    assert all(map(find_locally, names))
    wrong = ("me/all-MiniLM-L6-v2", "./all-MiniLM-L6-v2", "/no/such/place/all-MiniLM-L6-v2")
    assert not any(map(find_locally, wrong))
