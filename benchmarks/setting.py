"""A service of many domains to measure: random weights of the real user-side size.

The item encoder is small where embedding is not what is measured, and of MiniLM's size where it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from adapters_store.bundle import Manifest, check_bundle, write_bundle
from adapters_store.store import Store
from service.state import DomainRecord, State, StoredItem
from service.state.redis import RedisState
from service.state.sqlite import SqliteState
from transrec.adapters import Adapter, AdapterSpec, expected_tensors
from transrec.backbone import Backbone
from transrec.backbone_config import BackboneConfig, build
from transrec.text_encoder import TextShape
from transrec.user_encoder import UserShape

SPEC = AdapterSpec.parse(
    {
        "item": {"kind": "houlsby", "hidden": 16, "layers": 1},
        "user": {"kind": "houlsby", "hidden": 16},
    }
)
WORDS = ["[PAD]", "[UNK]", "title", *map(str, range(10)), *(f"##{digit}" for digit in range(10))]
SMALL = TextShape("bert", 2, 64, 2, 128, len(WORDS), 32, 2, 1e-12, 0)
MINILM = TextShape("bert", 6, 384, 12, 1536, len(WORDS), 32, 2, 1e-12, 0)
START_S = 1800.0


def domain_name(number: int) -> str:
    """Name of the n-th domain."""
    return f"domain{number:03}"


def prepare(
    folder: Path, domains: int, items: int, encoder: TextShape = SMALL, redis_url: str | None = None
) -> None:
    """Fill a data folder, or a Redis beside it,
    with domains, catalogs and live versions, unless it was done.
    """
    done = folder / f"prepared-{domains}-{items}"
    if done.exists():
        return
    backbone = _backbone(folder / "backbones" / "random", encoder)
    state: State = SqliteState(folder) if redis_url is None else RedisState(redis_url, folder)
    store = Store(folder / "adapters")
    catalog = [
        StoredItem(f"item-{number}", f"title {number} {number * 7919 % items}")
        for number in range(items)
    ]
    expected = expected_tensors(SPEC, backbone.shape)
    for number in range(domains):
        name = domain_name(number)
        bundle = folder / "bundle.safetensors"
        state.put_domain(DomainRecord(name, backbone.fingerprint))
        state.upsert_items(name, catalog)
        _bundle(bundle, backbone, name, seed=number)
        added = store.add(
            name, bundle, lambda found: check_bundle(found, expected, backbone.fingerprint)
        )
        store.record_activation(name, added.version, "benchmark")
    state.close()
    done.touch()


@contextmanager
def serving(
    data: Path, port: int, workers: int = 1, redis_url: str | None = None, probe: str = "readyz"
) -> Iterator[int]:
    """Run the service over a data folder; yields its pid, or its workers' parent's.

    That is once every domain answers; with `livez` as the probe, once it answers at all.
    """
    environment = {
        **os.environ,
        "SWAPREC_DATA": str(data),
        "SWAPREC_PORT": str(port),
        "SWAPREC_SLOTS": "128",
    }
    environment |= {"SWAPREC_WORKERS": str(workers), "SWAPREC_LOG_LEVEL": "warning"}
    environment |= {} if redis_url is None else {"REDIS_URL": redis_url}
    with _process(
        [sys.executable, "-m", "swaprec", "serve"], environment, f"http://127.0.0.1:{port}/{probe}"
    ) as pid:
        yield pid


@contextmanager
def yardstick(port: int) -> Iterator[int]:
    """Run the FastAPI no-op; yields its pid."""
    command = [sys.executable, "-m", "benchmarks.noop", str(port)]
    with _process(command, dict(os.environ), f"http://127.0.0.1:{port}/openapi.json") as pid:
        yield pid


@contextmanager
def _process(command: list[str], environment: dict[str, str], probe: str) -> Iterator[int]:
    process = subprocess.Popen(
        command, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + START_S
        while not _answers(probe):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(command)} did not come up")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _backbone(folder: Path, encoder: TextShape) -> Backbone:
    words = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106 - a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BackboneConfig(encoder, UserShape())
    backbone = Backbone(config, build(config), tokenizer)
    backbone.save(folder)
    return backbone


def make_bundle(path: Path, data: Path, domain: str, seed: int) -> None:
    """Write another bundle for a domain of a data folder that `prepare` made."""
    _bundle(path, Backbone.load(data / "backbones" / "random"), domain, seed)


def _bundle(path: Path, backbone: Backbone, domain: str, seed: int) -> None:
    adapter = Adapter.create(SPEC, backbone.shape, seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(t.shape, generator=generator) * 0.1
        for name, t in adapter.to_tensors().items()
    }
    manifest = Manifest(domain, SPEC.kind, SPEC.to_json(), backbone.fingerprint, "float32")
    write_bundle(path, manifest, {name: value.numpy() for name, value in tensors.items()})
