"""`python -m benchmarks.hostile`: how long others wait while clients with a key send what costs the
most.

Large pictures, bodies and files are sent over 127.0.0.1, one kind after the other, while another
process asks /livez fifty times a second: its longest latency is how long the event loop stood
still. Then four evaluations of 20,000 probes run on one domain while another domain is asked ten
times a second, beside the same alone. Latencies count from when a request was due.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from PIL import Image

from benchmarks.open_loop import send
from benchmarks.overload import LIVEZ
from benchmarks.serve import requests_of
from benchmarks.setting import domain_name, prepare, serving
from transrec.backbone import Backbone
from transrec.backbone_config import BackboneConfig, build
from transrec.image_encoder import ImageShape
from transrec.images import Preprocessing
from transrec.user_encoder import UserShape

PORT = 18095
DOMAINS = 2
ITEMS = 2000
PROBES = 20_000
TARGETS = {"livez_max_s": 0.25, "neighbour_p99_s": 0.25}
SIDE_PIXELS = 7000
RATE = 50
NEIGHBOUR_RATE = 10
SETTLE_S = 0.5
MIB = 1024 * 1024

Load = Callable[[], list[int]]
"""Sends something and returns the statuses it was answered with."""


def main() -> int:
    """Measure, print, return 0 when the bar holds."""
    options = _options()
    prepare(options.data, DOMAINS, ITEMS)
    _add_image_backbone(options.data / "backbones" / "pictures")
    os.environ["SWAPREC_BACKBONES"] = ""
    with serving(options.data, PORT):
        _ask("PUT", "/domains/pictures", json.dumps({"backbone": "pictures"}).encode())
        loads = _loads()
        idle, _ = _silence(partial(_rest, options.seconds))
        print(f"nothing beside: /livez at most {_ms(idle)}")
        worst = 0.0
        for name, load in loads.items():
            found, statuses = _silence(load)
            worst = max(worst, found)
            print(f"{name}: /livez at most {_ms(found)}; answered {_counted(statuses)}")
        alone = _neighbour(lambda: time.sleep(options.seconds))
        evaluated = _neighbour(_evaluate)
        print(
            f"a neighbour alone: p99 {_ms(alone)}; beside four evaluations of {PROBES:,}: p99"
            f" {_ms(evaluated)}"
        )
    value = {"livez_max_s": round(worst, 3), "neighbour_p99_s": round(evaluated, 3)}
    holds = all(value[name] <= TARGETS[name] for name in TARGETS)
    bar = (
        "longest /livez beside hostile pictures, bodies and files; p99 of a neighbour beside four"
        " evaluations"
    )
    print(json.dumps({"bar": bar, "value": value, "target": TARGETS, "holds": holds}))
    return 0 if holds else 1


def _loads() -> dict[str, Load]:
    """Return what is sent, by name; each is made before it is measured."""
    words = f"/domains/{domain_name(0)}"
    pictures = {form: _picture(form) for form in ("PNG", "GIF", "JPEG")}
    loads: dict[str, Load] = {}
    for form, content in pictures.items():
        body = json.dumps({"items": [{"image_b64": base64.b64encode(content).decode()}]}).encode()
        loads[f"ten {form}s of 49 megapixels at once"] = partial(
            _at_once, 10, "POST", "/embed?domain=pictures", body
        )
    deep = b'[{"item_id": "a", "title": ' + b"[" * 400_000 + b"]" * 400_000 + b"}]"
    lists = b'[{"item_id": "a", "title": [' + b"[]," * 300_000 + b"[]]}]"
    line = b'{"item_id": "a", "title": "' + b"x" * (32 * MIB) + b'"}\n'
    rows = b"".join(b'{"item_id": "bad\\u0000%d"}\n' % number for number in range(300_000))
    probes = json.dumps([{"history": ["item-1"], "target": "item-2"}] * PROBES).encode()
    loads["a body nested 400,000 deep"] = lambda: _at_once(4, "POST", f"{words}/items", deep)
    loads["a body of 300,000 small lists"] = lambda: _at_once(4, "POST", f"{words}/items", lists)
    loads["a line of 32 MiB"] = lambda: _at_once(
        2, "POST", f"{words}/items", line, "application/x-ndjson"
    )
    loads["300,000 rows that are refused"] = lambda: _at_once(
        1, "POST", f"{words}/items", rows, "application/x-ndjson"
    )
    loads[f"{PROBES:,} probes four times"] = lambda: _at_once(4, "PUT", f"{words}/probes", probes)
    for name, bundle in _bundles().items():
        body, kind = _form(bundle)
        loads[name] = partial(_at_once, 4, "POST", "/adapters", body, kind)
    return loads


def _bundles() -> dict[str, bytes]:
    """Return files that look like bundles: many tensors, and shapes of many digits."""
    tensors = {
        f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        for number in range(250_000)
    }
    digits = (
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * (2 * MIB) + b'], "data_offsets": [0, 0]}}'
    )
    headers = {
        "a bundle of 250,000 tensors": json.dumps(tensors).encode(),
        "a shape of two million digits": digits,
    }
    return {name: struct.pack("<Q", len(header)) + header for name, header in headers.items()}


def _form(bundle: bytes) -> tuple[bytes, str]:
    parts = [
        b'--x\r\ncontent-disposition: form-data; name="domain"\r\n\r\n'
        + domain_name(0).encode()
        + b"\r\n",
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + bundle
        + b"\r\n--x--\r\n",
    ]
    return b"".join(parts), "multipart/form-data; boundary=x"


def _picture(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("P" if form == "GIF" else "RGB", (SIDE_PIXELS, SIDE_PIXELS)).save(file, form)
    return file.getvalue()


def _rest(seconds: float) -> list[int]:
    time.sleep(seconds)
    return []


def _at_once(
    count: int, method: str, path: str, body: bytes, kind: str = "application/json"
) -> list[int]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: _ask(method, path, body, kind), range(count)))


def _ask(method: str, path: str, body: bytes, kind: str = "application/json") -> int:
    """Send one request; 0 where the connection was ended before an answer could be read."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
    except (BrokenPipeError, ConnectionResetError):
        return 0
    else:
        return answer.status
    finally:
        connection.close()


def _evaluate() -> None:
    """Evaluate all probes, four times at once, as a client does that waits for them."""
    name = domain_name(0)
    probes = json.dumps([{"history": ["item-1", "item-3"], "target": "item-2"}] * PROBES).encode()
    assert _ask("PUT", f"/domains/{name}/probes", probes) < 300  # noqa: S101 - else nothing is measured
    statuses = _at_once(4, "POST", f"/domains/{name}/evaluate", b"{}")
    print(f"evaluations answered {_counted(statuses)}")


def _silence(load: Load) -> tuple[float, list[int]]:
    """Return the longest latency of /livez beside a load, in seconds, and the load's statuses."""
    with _asking([LIVEZ], RATE) as seconds:
        statuses = load()
    return max(seconds), statuses


def _neighbour(run: Callable[[], None]) -> float:
    """Return the p99 of another domain's recommendations while something runs, in seconds."""
    name = f"POST /recommend?domain={domain_name(1)} ".encode()
    requests = [one for one in requests_of(DOMAINS, ITEMS) if one.startswith(name)]
    with _asking(requests, NEIGHBOUR_RATE) as seconds:
        run()
    return sorted(seconds)[int(0.99 * len(seconds))]


@contextmanager
def _asking(requests: list[bytes], rate: float) -> Iterator[list[float]]:
    """Ask from another process until the block ends; what is yielded holds the latencies then."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_prober, args=(theirs, requests, rate)
    )
    process.start()
    ours.recv()
    time.sleep(SETTLE_S)
    seconds: list[float] = []
    try:
        yield seconds
    finally:
        time.sleep(SETTLE_S)
        ours.send(None)
        seconds += ours.recv()
        process.join()


def _prober(pipe: Connection, requests: list[bytes], rate: float) -> None:
    pipe.send(None)
    seen = send(PORT, requests, rate, lambda: not pipe.poll(), 64)
    if seen.failed:
        print(f"{seen.failed} of what was asked beside it was not answered", file=sys.stderr)
    pipe.send(seen.seconds)


def _add_image_backbone(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=64, resize=64)
    image = ImageShape(2, 64, 2, 128, patch=16, first=1, norm_eps=1e-6, preprocessing=preprocessing)
    config = BackboneConfig(None, UserShape(), image=image)
    Backbone(config, build(config), None).save(folder)


def _counted(statuses: list[int]) -> str:
    return ", ".join(f"{statuses.count(one)} times {one}" for one in sorted(set(statuses)))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".swaprec/bench-hostile"))
    parser.add_argument("--seconds", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
