"""Whether a backbone's tokenizer knows the texts of a data set:
it is asked before anything is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from transrec.backbone import Backbone
from transrec.coverage import MANY_UNKNOWN

MAX_SAMPLE = 2000


def unknown_tokens(backbone: Backbone, texts: Sequence[str]) -> float:
    """Return the share of unknown tokens in some texts of a data set, spread over all of it."""
    step = max(1, -(-len(texts) // MAX_SAMPLE))
    return round(backbone.unknown_share([text for text in texts[::step] if text]), 4)


def describe_unknown(share: float) -> str:
    """Write a line about a share of unknown tokens."""
    line = f"{share:.1%} of the tokens of the texts are unknown to the backbone's tokenizer"
    if share < MANY_UNKNOWN:
        return line
    return (
        f"warning: {line}: different items look the same to the model; choose a backbone that reads"
        " their language"
    )
