"""Training: from a log to a bundle, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from swaprec import show
from swaprec.cli.options import AsJson, address, complete_form
from swaprec.errors import REJECTED, USAGE, Stop

if TYPE_CHECKING:
    from training.rejections import Rejections


def train(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value …")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pretrain a backbone, or train an adapter."""
    from training.figures import compare_with_baselines, describe_report, format_baseline
    from training.progress import Reporter
    from training.rejections import Rejections
    from training.run import run
    from training.run_file import load_config

    loaded = load_config(config, overrides or ())
    console = show.talk()
    reporter = Reporter(loaded.domain, console, loaded.output / "metrics.jsonl")
    with _counts_before_errors():
        result = run(loaded, reporter, resume=resume)
    _print_counts(Rejections.of_json(result.report["data"]))
    console.print(_spent(result.report))
    said = compare_with_baselines(result.report["test"], result.report["baselines"])
    if as_json:
        if said:
            console.print(said)
        show.emit_json(result.report | {"artifact": str(result.artifact)})
        return
    rows = [
        (
            loaded.domain,
            show.interval(result.report["test"]),
            f"{result.report['test']['ndcg']:.4f}",
        )
    ]
    for name, report in result.report["baselines"].items():
        rows.append((format_baseline(name), show.interval(report), f"{report['ndcg']:.4f}"))
    show.data().print(show.table("", ("", "HR@10 [95 %]", "NDCG@10"), rows, right=(2,)))
    console.print(f"measured on {describe_report(result.report)}")
    if said:
        console.print(said)
    typer.echo(str(result.artifact))


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its TOML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value …, with a TOML file.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Ask this service too, and compare.", callback=address)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run on its held-out users.

    With --against through a running service, too: the two must agree.
    """
    from swaprec.evaluation import evaluate_run

    console = show.talk()
    # JSON in a pipe or a log comes alone; at a terminal the bar vanishes.
    quiet = as_json and not console.is_terminal
    with _counts_before_errors():
        compared = evaluate_run(run, overrides or (), against, None if quiet else console)
    if as_json:
        show.emit_json(compared)
    else:
        rows = [
            (
                side,
                show.interval(compared[side]),
                f"{compared[side]['ndcg']:.4f}",
                compared[side]["tied_users"],
            )
            for side in ("offline", "served")
            if side in compared
        ]
        show.data().print(
            show.table("", ("", "HR@10 [95 %]", "NDCG@10", "tied"), rows, right=(2, 3))
        )
        _say_basis(compared, console)
    if against is not None and not compared["agrees"]:
        raise Stop(
            f"the two sides differ by {compared['difference']:.4f}",
            "is the same bundle live, in the same dtype?",
        )


def _say_basis(compared: Mapping[str, Any], console: Console) -> None:
    """Say what an evaluation was measured on, and which baselines it misses."""
    from training.figures import compare_with_baselines, describe_basis

    users = compared["offline"]["users"]
    digest = compared["data_digest"]
    console.print(
        f"measured on {describe_basis(compared['items'], users, compared['seed'], digest)}"
    )
    said = compare_with_baselines(compared["offline"], compared["baselines"])
    if said:
        console.print(said)


def _spent(report: Mapping[str, Any]) -> str:
    """Write what a run took, of all its stretches."""
    peak = report["peak_memory_mb"]
    floor = report["memory_floor_mb"]
    parts = [f"{report['seconds']:,.0f} s for {report['epochs']} epochs"]
    if report["stretches"] > 1:
        last = report["last_stretch_seconds"]
        epochs = report["last_stretch_epochs"]
        parts.append(
            f"in {report['stretches']} stretches, the last of {last:,.0f} s for {epochs} epochs"
        )
    parts.append(f"peak memory {peak:,.0f} MB, {peak - floor:,.0f} of it for this run")
    return ", ".join(parts)


def params(
    spec: Annotated[
        Path, typer.Argument(help="A run's TOML file, or one with the tables [item] and [user].")
    ],
    backbone: Annotated[Path | None, typer.Option(help="Count on this backbone folder.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Count on bert-base, roberta-base, minilm or vit-base.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count what an adapter trains, and its share of full fine-tuning."""
    from swaprec.parameters import count

    counted = count(spec, backbone, like)
    if as_json:
        show.emit_json(counted.to_json())
        return
    rows = [
        (name, f"{number:,}", f"{number / counted.full:.2%}")
        for name, number in (
            ("item", counted.item),
            ("user", counted.user),
            ("total", counted.total),
        )
    ]
    show.data().print(
        show.table(
            "",
            ("", "trains", "of full"),
            [*rows, ("full", f"{counted.full:,}", "100.00%")],
            right=(1, 2),
        )
    )


def import_peft(
    folder: Annotated[
        Path, typer.Argument(help="Folder with adapter_config.json and adapter_model.safetensors.")
    ],
    output: Annotated[Path, typer.Argument(help="The bundle to write, a .safetensors file.")],
    backbone: Annotated[
        Path, typer.Option(help="Folder of the backbone whose item encoder it was trained for.")
    ],
    domain: Annotated[str, typer.Option(help="The domain it is for.")],
    as_json: AsJson = False,
) -> None:
    """Make a LoRA checkpoint of the peft library the item side of a bundle."""
    from swaprec.from_peft import bundle_from_peft

    spec = bundle_from_peft(folder, backbone, domain, output)
    if as_json:
        show.emit_json({"bundle": str(output), "domain": domain, "spec": spec.to_json()})
        return
    show.talk().print(f"lora of rank {spec.item.hidden} on layers {spec.item.to_json()['layers']}")
    typer.echo(str(output))


def import_log(
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="canonical, csv, or the form of a public data set: docs/training.md.",
            autocompletion=complete_form,
        ),
    ],
    source: Annotated[Path, typer.Argument(help="Folder of the log.")],
    destination: Annotated[
        Path, typer.Argument(help="Folder for items.parquet and interactions.parquet.")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="Name of a column in the files: title=Title."),
    ] = None,
    time_format: Annotated[
        str, typer.Option(help="Form of times in text, such as %d/%m/%Y %H:%M.")
    ] = "",
    keep_duplicates: Annotated[
        bool,
        typer.Option("--keep-duplicates", help="Keep interactions of one user, item and time."),
    ] = False,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Exit 0 though rows were rejected.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring an interaction log into the canonical form.

    Rows with something wrong are counted and left out; the exit code is then 5, unless
    --allow-rejected.
    """
    from training.cleaning import clean
    from training.importers import canonical, read_tables
    from training.importers.tables import counted
    from training.rejections import Rejections

    columns = _columns(column or ())
    _check_form(time_format)
    rejected = Rejections()
    with _counts_before_errors(), counted(source, rejected):
        tables = clean(
            read_tables(form, source, columns, rejected),
            time_format,
            keep_duplicates=keep_duplicates,
        )
        counts = canonical.write(tables, destination)
    _print_counts(rejected)
    if as_json:
        found = {"rejected": rejected.to_json(), "notes": rejected.notes_to_json()}
        show.emit_json(counts | found)
    else:
        typer.echo(
            f"{counts['items']} items, {counts['interactions']} interactions in {destination}"
        )
    if rejected.total and not allow_rejected:
        raise Stop(
            f"{rejected.total} rows were rejected; all others are in {destination}",
            "mend them, or accept that with --allow-rejected",
            REJECTED,
        )


def _columns(given: Sequence[str]) -> dict[str, str]:
    """Read options OURS=THEIRS.

    Raises:
        Stop: one is none, or a name is given twice.
    """
    from training.importers.columns import check_mapping

    pairs = [one.partition("=") for one in given]
    ours = [our.strip() for our, _, _ in pairs]
    problems = [
        f"--column {one}" for one, (_, equals, _) in zip(given, pairs, strict=True) if not equals
    ]
    problems += [
        f"--column {our}=… is given twice" for our in sorted(set(ours)) if ours.count(our) > 1
    ]
    if problems:
        raise Stop(
            "; ".join(problems),
            "expected our name and the file's, such as --column title=Title",
            USAGE,
        )
    columns = {our: their.strip() for our, (_, _, their) in zip(ours, pairs, strict=True)}
    try:
        check_mapping(columns)
    except ValueError as error:
        raise Stop(f"--column {error}", code=USAGE) from error
    return columns


def _check_form(time_format: str) -> None:
    from training.times import check_form

    try:
        if time_format:
            check_form(time_format)
    except ValueError as error:
        raise Stop(f"--time-format {error}", code=USAGE) from error


@contextmanager
def _counts_before_errors() -> Iterator[None]:
    """Print what was counted of a log before the error that ended its reading."""
    from training.importers.tables import DataError

    try:
        yield
    except DataError as error:
        if error.rejected is not None:
            _print_counts(error.rejected)
        raise


def _print_counts(rejected: Rejections) -> None:
    for line in rejected.lines():
        show.talk().print(f"not used: {line}", markup=False, highlight=False, soft_wrap=True)
    for line in rejected.notes():
        show.talk().print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
