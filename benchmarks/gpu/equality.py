"""Section: whether what is served on the card equals what is served on the CPU."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.random_encoder import HOULSBY, draw_adapter, draw_titles, load
from benchmarks.gpu.report import SectionReport
from benchmarks.gpu.serving import HISTORY, catalog_of
from benchmarks.gpu.setup import Setup, gpu_fast
from service.catalog.index import ExactIndex
from service.engine.engine import History
from service.engine.queue import MAX_BATCH
from service.engine.torch_engine import TorchEngine
from transrec.arrays import Floats
from transrec.embed import embed
from transrec.gpu import GPU_FAST

TOP = 10
ADAPTER_SEED = 7
SLOTS = 4


def measure(setup: Setup, report: SectionReport) -> None:
    """Embed a catalog, encode users and rank,
    on both devices, with the same weights and adapter.
    """
    sizes = setup.sizes
    titles = draw_titles(sizes.equal_items, sizes.vocabulary, 4)
    rng = np.random.default_rng(5)
    histories = [
        rng.choice(len(titles), HISTORY, replace=False).tolist() for _ in range(sizes.equal_users)
    ]
    items = {}
    users = {}
    for device in ("cpu", setup.device):
        backbone = load(setup, sizes.main, device)
        adapter = draw_adapter(backbone, HOULSBY, ADAPTER_SEED)
        for dtype in ("float32", "bfloat16") if device != "cpu" else ("float32",):
            items[device, dtype] = embed(backbone, titles, adapter, dtype=dtype)
            if device != "cpu":
                with gpu_fast():
                    items[device, f"{dtype}, {GPU_FAST}=1"] = embed(
                        backbone, titles, adapter, dtype=dtype
                    )
        engine = TorchEngine(backbone, slots=SLOTS, max_queue=MAX_BATCH)
        slot = engine.take_slot(adapter.user)
        for (where, dtype), vectors in items.items():
            catalog = catalog_of(vectors)
            batch = [History(rows, slot, catalog) for rows in histories]
            parts = [
                engine.encode(batch[at : at + MAX_BATCH]) for at in range(0, len(batch), MAX_BATCH)
            ]
            users[device, where, dtype] = np.concatenate(parts)
    _report(setup.device, items, users, report)


def _report(
    device: str,
    items: dict[tuple[str, str], Floats],
    users: dict[tuple[str, str, str], Floats],
    report: SectionReport,
) -> None:
    exact = items["cpu", "float32"]
    wanted = users["cpu", "cpu", "float32"]
    _compare(
        report,
        "user encoder, same item vectors",
        (wanted, exact),
        (users[device, "cpu", "float32"], exact),
    )
    for where, dtype in items:
        if where == device:
            found = users[device, device, dtype], items[device, dtype]
            _compare(report, f"items and users, items in {dtype}", (wanted, exact), found)


def _compare(
    report: SectionReport, what: str, cpu: tuple[Floats, Floats], card: tuple[Floats, Floats]
) -> None:
    """Compare (users, items) of the CPU and of the card."""
    differences = [float(np.abs(one - other).max()) for one, other in zip(cpu, card, strict=True)]
    (_, best), (_, found) = (ExactIndex(items).search(users, TOP) for users, items in (cpu, card))
    same = [
        len(set(one) & set(other)) for one, other in zip(best.tolist(), found.tolist(), strict=True)
    ]
    value = {
        "users_max_difference": differences[0],
        "items_max_difference": differences[1],
        "users_max": float(np.abs(cpu[0]).max()),
        "items_max": float(np.abs(cpu[1]).max()),
        "top10_agreement": sum(same) / best.size,
        "top10_same_order": float((best == found).all(axis=1).mean()),
    }
    report.figure(what, value)
    report.row(
        f"card = CPU: {what}",
        f"users ±{differences[0]:.1e}, items ±{differences[1]:.1e}, top 10"
        f" {value['top10_agreement']:.2%} the same",
    )
