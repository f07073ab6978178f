"""How much of some texts a tokenizer knows:
a script that it was not made for becomes the same token everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer

from transrec.content import BETWEEN

MANY_UNKNOWN = 0.2
"""From this share of unknown tokens on, different items begin to look the same."""
MAX_CHARACTERS = 500
"""Of a text: the encoder cuts long texts, too."""


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token that stands for what is unknown;
    None where everything is known, as bytes are.
    """
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:  # Unigram names a place in its vocabulary
        return int(model["unk_id"])
    named = model.get("unk_token")
    return None if named is None else tokenizer.token_to_id(named)


def unknown_share(tokenizer: Tokenizer, unknown: int | None, texts: Sequence[str]) -> float:
    """Return which share of the tokens of texts is the unknown one;
    special tokens and padding do not count.
    """
    if unknown is None or not texts:
        return 0.0
    shown = [text[:MAX_CHARACTERS].replace(BETWEEN, " ") for text in texts]
    found = tokenizer.encode_batch_fast(shown, add_special_tokens=False)
    # A checkpoint's tokenizer may pad each text to a fixed length: the mask leaves that out.
    count = sum(sum(encoding.attention_mask) for encoding in found)
    return sum(encoding.ids.count(unknown) for encoding in found) / count if count else 0.0
