"""Adapters: what trains in a domain, given by a spec and handed to the encoders as an argument.

A kind is one class: it extends `SideAdapter`, names itself and the settings it reads, answers the
questions of the seam (`transrec.seam`) that concern it, and enters by `register`. The modules named
here hold all kinds.
"""

from __future__ import annotations

from transrec.adapters import chains, tokens, weights
from transrec.adapters.adapter import (
    Adapter,
    ParameterCount,
    WeightBytes,
    count_parameters,
    expected_tensors,
    measure_weights,
)
from transrec.adapters.bank import AdapterBank, gathers, stack
from transrec.adapters.bottlenecks import Bottleneck, Bottlenecks, Compacter
from transrec.adapters.chains import PairedTowers
from transrec.adapters.side import EVERYTHING, Merged, Paired, Reach, SideAdapter
from transrec.adapters.spec import (
    KINDS,
    AdapterShape,
    AdapterSpec,
    SideShape,
    SideSpec,
    SpecError,
    user_side,
)
from transrec.seam import Adapt, Place, unchanged

__all__ = [
    "EVERYTHING",
    "KINDS",
    "Adapt",
    "Adapter",
    "AdapterBank",
    "AdapterShape",
    "AdapterSpec",
    "Bottleneck",
    "Bottlenecks",
    "Compacter",
    "Merged",
    "Paired",
    "PairedTowers",
    "ParameterCount",
    "Place",
    "Reach",
    "SideAdapter",
    "SideShape",
    "SideSpec",
    "SpecError",
    "WeightBytes",
    "chains",
    "count_parameters",
    "expected_tensors",
    "gathers",
    "measure_weights",
    "stack",
    "tokens",
    "unchanged",
    "user_side",
    "weights",
]
