"""What a version must reach on the domain's probes before it goes live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import GateFailed
from service.live.table import LiveDomain
from service.recommend.probes import Lists, ProbeResults, answers, figures, overlap
from service.recommend.recommend import Reader
from service.state import Probe
from service.wire.requests import GateBody
from service.wire.responses import Evaluated

K = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen, and every threshold that was missed."""

    figures: dict[str, Any]
    missed: list[str]


async def run_gate(
    gate: GateBody,
    candidate: LiveDomain,
    live: LiveDomain | None,
    probes: Sequence[Probe],
    reader: Reader,
) -> Verdict:
    """Ask candidate and live version the same probes, by the path that answers requests, and
    compare.

    Args:
        gate: thresholds.
        candidate: what is to go live.
        live: what it would replace, if anything answers.
        probes: of the domain.
        reader: as requests have it.
    """
    ours = await answers(candidate, probes, reader, K)
    seen = await run_in_threadpool(_figures, candidate, probes, ours)
    before: Evaluated | None = None
    theirs: Lists = []
    if live is not None:
        theirs = await answers(live, probes, reader, K)
        before = await run_in_threadpool(_figures, live, probes, theirs)
    shared = await run_in_threadpool(overlap, ours, theirs) if before is not None else None
    seen_figures = {
        "candidate": seen,
        "live": before,
        "overlap_at_10": shared,
        "gate": gate.model_dump(),
    }
    return Verdict(seen_figures, _missed(gate, seen, before, shared, len(candidate.items)))


def _figures(live: LiveDomain, probes: Sequence[Probe], lists: Lists) -> Evaluated:
    return figures(live, ProbeResults.of(probes, lists), K)


def check(domain: str, verdict: Verdict) -> None:
    """Raise where a threshold was missed.

    Raises:
        GateFailed: with the figures.
    """
    if verdict.missed:
        listed = [{"loc": ["gate"], "msg": reason} for reason in verdict.missed]
        raise GateFailed(
            f"{domain}: {'; '.join(verdict.missed)}: the live version stays",
            listed,
            verdict.figures,
        )


def _missed(
    gate: GateBody, seen: Evaluated, before: Evaluated | None, shared: float | None, items: int
) -> list[str]:
    found = []
    for name, least in (("hr", gate.min_hr10), ("ndcg", gate.min_ndcg10)):
        value = float(seen["hr"] if name == "hr" else seen["ndcg"])
        if least is not None and value < least:
            found.append(f"{name.upper()}@10 is {value:.4f}, expected at least {least}")
    if (
        gate.max_drop is not None
        and before is not None
        and seen["hr"] < before["hr"] * (1 - gate.max_drop)
    ):
        found.append(
            f"HR@10 is {seen['hr']:.4f}, that of the live version {before['hr']:.4f}: "
            f"it may be {gate.max_drop:.0%} lower at most"
        )
    possible = min(items, K * seen["probes"])
    if seen["distinct_items"] < gate.min_distinct * possible:
        found.append(
            f"{seen['probes']} probes are answered with {seen['distinct_items']} different items of"
            f" {possible} possible ones, expected at least {gate.min_distinct:.0%}: the adapter"
            " collapsed"
        )
    if gate.min_overlap is not None and shared is not None and shared < gate.min_overlap:
        found.append(
            f"{shared:.0%} of what the live version recommends stays, expected"
            f" {gate.min_overlap:.0%}: drift"
        )
    return found
