"""Signs that something is wrong with a training, or that a claim would be too strong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from training.figures import compare_with_baselines
from training.report.rows import Row, Section, baselines, measured_on

Intervals = Mapping[str, tuple[float, float, float]]


def signs(section: Section) -> Iterator[str]:
    """Yield what a reader of a section should know, one sentence each."""
    for panel, rows in section.panels.items():
        where = f"{panel}: " if panel else ""
        known = baselines(rows)
        bases = measured_on(rows)
        if len(bases) > 1:
            yield (
                f"{where}the rows were measured on different data ({'; '.join(bases)}): they are"
                " not comparable"
            )
        for row in rows:
            said = compare_with_baselines(_report(row.hr), _reports(known | baselines([row])))
            if said:
                yield f"{where}{row.name}: {said}"
            for sentence in _of(row):
                yield f"{where}{row.name} {sentence}"
        yield from (f"{where}{sentence}" for sentence in _still_growing(rows))


def _of(row: Row) -> Iterator[str]:
    _, low, high = row.hr
    if _rising(row):
        yield "was still rising at its last epoch: train longer before comparing"
    spec = row.results[0].get("spec")
    if spec is not None:
        frozen = [side for side in ("item", "user") if spec[side]["kind"] == "none"]
        if frozen:
            yield f"leaves the {frozen[0]} side frozen"
    if len(row.results) > 1 and (max(row.seeds) - min(row.seeds)) > (high - low):
        yield "differs more between seeds than between users: one seed says little"
    for result in row.results:
        if result.get("stretches", 1) > 1:
            yield (
                f"(seed {result['seed']}) was resumed: its {result['seconds']:,.0f} s are of"
                f" {result['stretches']} stretches, the last of"
                f" {result['last_stretch_seconds']:,.0f} s"
            )


def _reports(known: Intervals) -> dict[str, dict[str, float]]:
    return {name: _report(values) for name, values in known.items()}


def _report(values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("hr", "hr_low", "hr_high"), values, strict=True))


def _rising(row: Row) -> bool:
    """Whether the best validation is the last one,
    by more than a hundredth above the one before.
    """
    ends = [result["curves"]["hr"][-2:] for result in row.results]
    return all(len(pair) == 2 and pair[1] > 1.01 * pair[0] for pair in ends)  # noqa: PLR2004 - last and before


def _still_growing(rows: Sequence[Row]) -> Iterator[str]:
    sizes = sorted(capacities(rows))
    if len(sizes) >= 3 and sizes[-1][1] > max(hr for _, hr in sizes[:-1]):  # noqa: PLR2004 - a sweep
        yield f"HR@10 still grows at the largest hidden size ({sizes[-1][0]}): try larger ones"


def capacities(rows: Sequence[Row]) -> list[tuple[int, float]]:
    """Hidden sizes of the item side and HR@10, of rows that differ in nothing else."""
    specs = [(row, row.results[0].get("spec")) for row in rows]
    sized = [
        (row, spec["item"]["hidden"], spec)
        for row, spec in specs
        if spec and "hidden" in spec["item"]
    ]
    rest = {repr({**spec, "item": {**spec["item"], "hidden": 0}}) for _, _, spec in sized}
    different = len({hidden for _, hidden, _ in sized}) == len(rows)
    return [(hidden, row.hr[0]) for row, hidden, _ in sized] if len(rest) == 1 and different else []
