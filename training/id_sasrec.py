"""Plain SASRec over item ids (Kang & McAuley 2018): one trained vector an item, no content, no
transfer.

The baseline that says what a log alone gives, and the check of loop and metric: its HR@10 on public
data is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from training.config import RunConfig
from training.data import Dataset
from training.evaluate import Evaluation, rank_held_out
from training.states import PooledStates
from training.subject import Subject
from transrec.backbone import Backbone
from transrec.backbone_config import BackboneConfig
from transrec.devices import resolve_device
from transrec.model import TransRec
from transrec.text_encoder import TextEncoder, TextShape
from transrec.user_encoder import UserShape, xavier


@dataclass(frozen=True, slots=True)
class IdSubject(Subject):
    """A subject whose items are the rows of a table."""

    table: nn.Embedding

    def item_vectors(self, rows: NDArray[np.int64]) -> Tensor:
        """Look up vectors [m, d]."""
        return F.embedding(torch.from_numpy(rows).to(self.table.weight.device), self.table.weight)


def id_subject(config: RunConfig, items: int, device: str) -> IdSubject:
    """Draw a table of `items` vectors and a user encoder of the configured sizes."""
    torch.manual_seed(config.seed)
    source = config.backbone
    shape = UserShape(
        source.width, source.max_history, source.heads, source.blocks, config.train.dropout
    )
    carrier = _carrier(shape, device)
    table = nn.Embedding(items, source.width)
    xavier(table)
    trained = nn.ModuleDict(
        {"table": table.to(carrier.device), "user_encoder": carrier.model.user_encoder}
    )
    trained.requires_grad_(requires_grad=True)
    nothing = PooledStates(torch.empty(0), np.zeros(0, np.int64))
    return IdSubject(
        carrier, None, nothing, trained, dict.fromkeys(trained, config.train.lr), table
    )


def evaluate_ids(subject: IdSubject, dataset: Dataset) -> Evaluation:
    """Rank each user's held-out item among the whole catalog, all of the known history masked."""
    vectors = subject.table.weight.detach().cpu().numpy()
    return rank_held_out(subject.backbone, None, dataset, vectors, "test")


def _carrier(shape: UserShape, device: str) -> Backbone:
    """The loop asks a backbone for its user encoder;
    the smallest item side stands in, and is never called.
    """
    text = TextShape("bert", 1, 2, 1, 2, 1, 1, 1, 1e-12, 0)
    model = TransRec(TextEncoder(text, "cls"), None, shape)
    config = BackboneConfig(text, shape)
    return Backbone(config, model.to(resolve_device(device)), Tokenizer(models.WordLevel()))
