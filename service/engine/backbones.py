"""The backbones that are loaded, each with its engine, by fingerprint."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from service.engine.engine import Engine
from service.engine.torch_engine import TorchEngine
from service.errors import BackboneNotFound
from service.settings import Settings
from transrec.backbone import Backbone
from transrec.errors import BackboneError

_log = logging.getLogger("swaprec")


class Backbones(Mapping[str, Engine]):
    """Those that are there at the start, and those that are found when somebody asks for one that
    is not.

    Reading takes no lock: the table is replaced, never changed, and nothing leaves it.

    Raises:
        BackboneError: one cannot be loaded.
    """

    def __init__(
        self, settings: Settings, observe: Callable[[int, int], None] | None = None
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._looking = threading.Lock()
        self._engines: dict[str, Engine] = {}
        self._loaded: set[Path] = set()
        self._folders: dict[str, Path] = {}
        for folder in backbone_folders(settings):
            self._load(folder)

    def look_again(self) -> bool:
        """Load the folders that were put beside the others since; return whether there is another
        backbone now.

        A folder that cannot be loaded is logged and left where it is.
        """
        with self._looking:
            before = len(self._engines)
            for folder in backbone_folders(self._settings):
                if folder not in self._loaded:
                    try:
                        self._load(folder)
                    except (BackboneError, OSError) as error:
                        _log.warning("%s is no backbone: %s", folder, error)
            return len(self._engines) > before

    def folder(self, fingerprint: str) -> Path | None:
        """Return where a backbone was loaded from."""
        return self._folders.get(fingerprint)

    def names(self) -> dict[str, str]:
        """Return what each backbone is called, by fingerprint; no two share a name."""
        return unique_names(self._folders)

    def find(self, wanted: str | None) -> str:
        """Return the fingerprint that a name, a beginning of it, or nothing stands for; before
        giving up, look for new folders.

        Raises:
            BackboneNotFound: none or several fit.
        """
        fitting = self._fitting(wanted)
        if not fitting and self.look_again():
            fitting = self._fitting(wanted)
        if len(fitting) == 1:
            return fitting[0]
        shown = [f"{name} ({fingerprint[:12]})" for fingerprint, name in self.names().items()]
        there = ", ".join(shown) or "none"
        what = (
            "no backbone named"
            if wanted is None
            else f"backbone {wanted!r} fits {len(fitting)} of them"
        )
        hint = (
            ""
            if fitting
            else "; put its folder, as `swaprec train` makes it, into backbones/ of the data folder"
        )
        raise BackboneNotFound(f"{what}; loaded: {there}{hint}")

    def _fitting(self, wanted: str | None) -> list[str]:
        """Return the fingerprints that fit:
        a unique name fits one backbone, a folder's name all that share it.
        """
        exact = [fingerprint for fingerprint, name in self.names().items() if name == wanted]
        return exact or [
            fingerprint
            for fingerprint, engine in self.items()
            if wanted is None or engine.backbone.name == wanted or fingerprint.startswith(wanted)
        ]

    def _load(self, folder: Path) -> None:
        backbone = Backbone.load(folder, self._settings.device)
        shown = backbone.fingerprint[:12]
        first = self._folders.get(backbone.fingerprint)
        if first is None:
            engine = build_engine(backbone, self._settings, self._observe)
            # Folders first: whoever sees a backbone finds its name.
            self._folders = {**self._folders, backbone.fingerprint: folder.absolute()}
            self._engines = {**self._engines, backbone.fingerprint: engine}
            _log.info("backbone %s (%s) loaded from %s", backbone.name, shown, folder)
        else:
            _log.warning(
                "%s holds the same backbone as %s (%s): the first one is used", folder, first, shown
            )
        self._loaded.add(folder)

    def __getitem__(self, fingerprint: str) -> Engine:
        return self._engines[fingerprint]

    def __iter__(self) -> Iterator[str]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)


def build_engine(
    backbone: Backbone, settings: Settings, observe: Callable[[int, int], None] | None
) -> Engine:
    """Build the engine that serves a backbone;
    this is the one place that names the implementation.
    """
    return TorchEngine(
        backbone, slots=settings.slots, max_queue=settings.max_queue, observe=observe
    )


def backbone_folders(settings: Settings) -> list[Path]:
    """Return the folders that are named, or all in `<data>/backbones`."""
    if settings.backbones:
        return list(settings.backbones)
    shelf = settings.data / "backbones"
    return (
        sorted(path for path in shelf.iterdir() if path.is_dir() and path.name[0] != ".")
        if shelf.is_dir()
        else []
    )


def unique_names(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return a name of each backbone, by fingerprint: its folder's.

    `swaprec train` calls every backbone's folder `backbone`. Those that share a name get their
    parent's before it, and where that is the same, too, the beginning of the fingerprint after it.
    """
    absolute = {fingerprint: folder.absolute() for fingerprint, folder in folders.items()}
    short = Counter(folder.name for folder in absolute.values())
    long = Counter(folder.parts[-2:] for folder in absolute.values())
    names = {}
    for fingerprint, folder in absolute.items():
        if short[folder.name] == 1:
            names[fingerprint] = folder.name
        elif long[folder.parts[-2:]] == 1:
            names[fingerprint] = "/".join(folder.parts[-2:])
        else:
            names[fingerprint] = f"{folder.name}-{fingerprint[:8]}"
    return names
