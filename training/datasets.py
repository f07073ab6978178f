"""The data sets that the packaged experiments name,
and what an experiment still lacks before it can begin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.config import RunConfig

MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class KnownDataset:
    """Where a data set comes from, how large it is,
    and how to put it where experiments look for it.
    """

    source: str
    size: str
    how: str


KNOWN = {
    "ml_1m_posters": KnownDataset(
        "MovieLens-1M of GroupLens, the films that have a poster",
        "3,256 films, 6,040 users, 985,545 interactions, 23 MB with posters",
        "unpack ml-1m.zip of https://grouplens.org/datasets/movielens/1m/; swaprec import movielens"
        " ml-1m DATA/ml_1m_posters; the titles there have the year in them: add"
        ' base.data.text="{title} {genres}". Posters (4-images, 5-multimodal) are yours to add:'
        " images.zip, and a column image in items.parquet",
    ),
    "amazon_instruments": KnownDataset(
        "Amazon reviews of 2018, Musical Instruments, an excerpt",
        "20,605 products, 9,924 users, 80,239 interactions, 1 MB",
        "Musical_Instruments_5.json.gz and meta_Musical_Instruments.json.gz of"
        " https://nijianmo.github.io/amazon/ in one folder; swaprec import amazon FOLDER"
        " DATA/amazon_instruments",
    ),
    "hm_products": KnownDataset(
        "H&M Personalized Fashion Recommendations of Kaggle, an excerpt with pictures",
        "2,509 products, 724 users, 14,232 interactions, 7 MB with pictures",
        "swaprec import hm FOLDER DATA/hm_products, from the files named under hm; zip images/ as"
        " images.zip",
    ),
    "MINDsmall": KnownDataset(
        "MIND of Microsoft News, the small one",
        "about 65,000 articles and 94,000 users",
        "unpack MINDsmall_train.zip and MINDsmall_dev.zip of https://msnews.github.io/ into"
        " DATA/MINDsmall",
    ),
    "adressa": KnownDataset(
        "Adressa, a Norwegian newspaper, of NTNU",
        "one week in the light version",
        "the files of events, one a day, of https://reclab.idi.ntnu.no/dataset/ into DATA/adressa",
    ),
    "hm": KnownDataset(
        "H&M Personalized Fashion Recommendations of Kaggle",
        "105,542 products, about 1.4 million users, 31.8 million interactions, 30 GB with pictures",
        "articles.csv, transactions_train.csv and images/ of"
        " https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations into"
        " DATA/hm",
    ),
    "amazon_clothing": KnownDataset(
        "Amazon reviews of 2018, Clothing, Shoes and Jewelry, with product pictures",
        "11.3 million interactions in the 5-core",
        "the reviews and meta_Clothing_Shoes_and_Jewelry.json.gz of"
        " https://nijianmo.github.io/amazon/; swaprec import amazon FOLDER DATA/amazon_clothing;"
        " fetch the pictures that meta names into images/, and name them in a column image of"
        " items.parquet",
    ),
    "Bili_Movie": KnownDataset(
        "NineRec, Bili_Movie",
        "about 3,500 videos, 16,500 users, 116,000 interactions",
        "Bili_Movie_item.csv and Bili_Movie_pair.csv of https://github.com/westlake-repl/NineRec"
        " into DATA/Bili_Movie",
    ),
    "Bili_Food": KnownDataset(
        "NineRec, Bili_Food",
        "about 1,600 videos, 6,500 users, 40,000 interactions",
        "Bili_Food_item.csv and Bili_Food_pair.csv of https://github.com/westlake-repl/NineRec into"
        " DATA/Bili_Food",
    ),
}


def find_missing(runs: Iterable[tuple[str, RunConfig]]) -> list[str]:
    """Return a line for every folder or file that runs read and that is not there, with how to get
    it.

    Args:
        runs: names and configurations. The backbones of their sources, which do not exist yet, are
            not asked for.
    """
    wanted: dict[Path, list[str]] = {}
    for name, config in runs:
        for path in _reads(config):
            wanted.setdefault(path, []).append(name)
    missing = {path: names for path, names in wanted.items() if not path.exists()}
    # Pictures within a folder that is missing itself come with it.
    outermost = {
        path: names
        for path, names in missing.items()
        if not any(one in path.parents for one in missing)
    }
    return [_line(path, names) for path, names in outermost.items()]


def _reads(config: RunConfig) -> list[Path]:
    found = [config.data.folder]
    if config.data.images is not None:
        found.append(config.data.images)
    encoders = [
        name
        for name in (config.backbone.encoder, config.backbone.image_encoder)
        if name is not None
    ]
    return [*found, *(Path(name).expanduser() for name in encoders if _is_path(name))]


def _is_path(encoder: str) -> bool:
    """Whether an encoder can only be a folder here; a name such as org/model is fetched."""
    return encoder.startswith(("/", ".", "~")) or encoder.count("/") > 1


def _line(path: Path, names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    line = (
        f"{path} is not there; {', '.join(names[:MAX_NAMED])}{more}"
        f" need{'' if len(names) > 1 else 's'} it"
    )
    known = KNOWN.get(path.name) or KNOWN.get(path.parent.name)
    if known is None:
        return line
    how = known.how.replace("DATA", str(path.parent if path.name in KNOWN else path.parent.parent))
    return f"{line}: {known.source} ({known.size}). To get it: {how}"
