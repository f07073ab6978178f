"""`kill -9` of a writer at random moments:
nothing acknowledged is lost, the store opens by itself.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from adapters_store.store import Store

WRITER = """
import sys
from pathlib import Path
import numpy as np
from adapters_store.bundle import Manifest, write_bundle
from adapters_store.store import Store
store = Store(Path(sys.argv[1]))
source, begin = Path(sys.argv[2]), int(sys.argv[3])
manifest = Manifest(domain="movies", kind="houlsby", spec={}, backbone="f", dtype="float32")
print("ready", flush=True)
for number in range(begin, begin + 10_000):
    write_bundle(source, manifest, {"a": np.full(50_000, number, np.float32)})
    added = store.add("movies", source, lambda bundle: [])
    print("added", added.version, number, flush=True)
    store.record_activation("movies", added.version, "activate")
    print("live", added.version, number, flush=True)
"""


def test_killed_at_twenty_random_moments_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    rng = random.Random(0)
    acknowledged: dict[int, int] = {}
    live = 0
    for turn in range(200):
        # A busy machine gets less done before it is killed.
        if turn >= 20 and len(acknowledged) > 20:
            break
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path / "store"),
            str(tmp_path / "in"),
            str(turn * 10_000),
        ]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.06))
        writer.send_signal(signal.SIGKILL)
        for line in writer.communicate()[0].splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # torn by the kill: not acknowledged
            what, version, number = line.split()
            acknowledged[int(version)] = int(number)
            live = int(version) if what == "live" else live
        store = Store(tmp_path / "store")
        versions = {card.version for card in store.versions("movies")}
        assert acknowledged.keys() <= versions
        assert len(versions - acknowledged.keys()) <= turn + 1
        found = store.live("movies") or 0
        assert found in ({live, live + 1} | versions)
        assert found >= live
        live = found
    assert len(acknowledged) > 20
    for stored, value in acknowledged.items():
        assert store.open("movies", stored).tensors["a"][0] == value
    left = [path for path in (tmp_path / "store").rglob("*.part") if ".incoming" in str(path)]
    assert left == []
