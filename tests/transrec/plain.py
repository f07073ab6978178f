"""The network and every kind of adapter once more, in the plainest form: one row, one position, one
head at a time.

Nothing here is shared with the product but the names of the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TensorList = list[Tensor]


@dataclass
class Plain:
    """One encoder's weights and one side's adapter,
    both by name; `see(t)` are the positions that t may attend to.
    """

    weights: Mapping[str, Tensor]
    adapter: Mapping[str, Tensor]
    kind: str
    layers: int
    heads: int
    eps: float
    activation: Callable[[Tensor], Tensor]
    scale: float = 1.0
    pre_norm: bool = False

    def run(self, x: TensorList, see: Callable[[int], Sequence[int]]) -> list[TensorList]:
        """Return the input of each block and the last one's output."""
        states = [x]
        for layer in range(self.layers):
            x = self.block(layer, x, see)
            states.append(x)
        return states

    def block(self, layer: int, x: TensorList, see: Callable[[int], Sequence[int]]) -> TensorList:
        first = f"{layer}.attention_norm"
        second = f"{layer}.ffn_norm"
        heard = self.attend(
            layer, [self.norm(first, own) for own in x] if self.pre_norm else x, see
        )
        out = []
        for own, said in zip(x, heard, strict=True):
            a = own + self.adapted(layer, "attention", own, said)
            inside = a = a if self.pre_norm else self.norm(first, a)
            if self.pre_norm:
                inside = self.norm(second, a)
            h = self.linear(
                f"{layer}.ffn_out", self.activation(self.linear(f"{layer}.ffn_in", inside))
            )
            y = a + self.adapted(layer, "ffn", a, h)
            out.append(y if self.pre_norm else self.norm(second, y))
        return out

    def attend(self, layer: int, x: TensorList, see: Callable[[int], Sequence[int]]) -> TensorList:
        q, k, v = (
            [self.linear(f"{layer}.{name}", own) for own in x] for name in ("query", "key", "value")
        )
        more = (
            []
            if self.kind != "prefix"
            else list(range(len(x), len(x) + len(self.adapter[f"{layer}.keys"])))
        )
        if more:
            k = k + list(self.adapter[f"{layer}.keys"])
            v = v + list(self.adapter[f"{layer}.values"])
        width = len(x[0]) // self.heads
        out = []
        for t in range(len(x)):
            seen = [*see(t), *more]
            parts = []
            for head in range(self.heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.stack([q[t][part] @ k[s][part] / math.sqrt(width) for s in seen])
                shares = torch.exp(scores - scores.max())
                shares = shares / shares.sum()
                parts.append(
                    sum(
                        (share * v[s][part] for share, s in zip(shares, seen, strict=True)),
                        torch.zeros(width),
                    )
                )
            out.append(self.linear(f"{layer}.attention_out", torch.cat(parts)))
        return out

    def linear(self, place: str, x: Tensor) -> Tensor:
        name = f"blocks.{place}"
        if f"{name}.weight" not in self.weights:
            name = name.replace("attention_out", "out")
        y = (self.weights[f"{name}.weight"] + self.whole(f"{place}.weight")) @ x
        if f"{name}.bias" in self.weights:
            y = y + self.weights[f"{name}.bias"] + self.whole(f"{place}.bias")
        if f"{place}.a" in self.adapter:
            y = y + self.scale * (self.adapter[f"{place}.b"] @ (self.adapter[f"{place}.a"] @ x))
        return y + self.adapter.get(f"biases.{place}.bias", torch.zeros(()))

    def whole(self, name: str) -> Tensor:
        """What the kind `whole` adds."""
        return self.adapter.get(name, torch.zeros(())) if self.kind == "whole" else torch.zeros(())

    def norm(self, place: str, x: Tensor) -> Tensor:
        name = "norm" if place == "outside.norm" else f"blocks.{place}"
        weight = self.weights[f"{name}.weight"] + self.adapter.get(
            f"norms.{place}.weight", torch.zeros(())
        )
        bias = self.weights[f"{name}.bias"] + self.adapter.get(
            f"norms.{place}.bias", torch.zeros(())
        )
        bias = bias + self.adapter.get(f"biases.{place}.bias", torch.zeros(()))
        if self.kind == "whole":
            inside = "outside" if place == "outside.norm" else place
            weight = weight + self.whole(f"{inside}.weight")
            bias = bias + self.whole(f"{inside}.bias")
        centred = x - x.mean()
        return centred / torch.sqrt((centred**2).mean() + self.eps) * weight + bias

    def adapted(self, layer: int, place: str, x: Tensor, h: Tensor) -> Tensor:
        name = f"{layer}.{place}"
        if f"{name}.down.bias" not in self.adapter:
            return h
        down = self.matrix(f"{name}.down")
        up = self.matrix(f"{name}.up")
        inner = (
            down @ (x if self.kind == "houlsby_parallel" else h) + self.adapter[f"{name}.down.bias"]
        )
        if self.kind == "compacter":  # the GELU that is approximated by tanh
            inner = (
                0.5
                * inner
                * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
            )
        else:
            inner = torch.stack([value if value > 0 else torch.zeros(()) for value in inner])
        return h + up @ inner + self.adapter[f"{name}.up.bias"]

    def matrix(self, name: str) -> Tensor:
        """A weight [out, in]; of compacter `Σ_k A_k ⊗ (s_k t_kᵀ)`, which is [in, out]."""
        if self.kind != "compacter":
            return self.adapter[f"{name}.weight"]
        rule = self.adapter["rule"]
        s = self.adapter[f"{name}.s"]
        t = self.adapter[f"{name}.t"]
        products = [torch.kron(rule[k], torch.outer(s[k, :, 0], t[k, 0])) for k in range(len(rule))]
        return torch.stack(products).sum(0).T

    def k_chain(
        self, states: list[TensorList], see: Callable[[int], Sequence[int]], heads: int, eps: float
    ) -> TensorList:
        """K-Adapter: a chain of K blocks over some states, combined with the encoder's output."""
        z = [torch.zeros_like(own) for own in states[0]]
        for number, state in states_of(self.adapter, states[:-1]):
            inputs = [own + before for own, before in zip(state, z, strict=True)]
            inner = [
                self.adapter[f"{number}.down.weight"] @ x + self.adapter[f"{number}.down.bias"]
                for x in inputs
            ]
            own = {name.removeprefix(f"{number}."): value for name, value in self.adapter.items()}
            blocks = Plain(own, {}, "none", 2, heads, eps, torch.relu)
            inner = blocks.run(inner, see)[-1]
            up = self.adapter[f"{number}.up.weight"]
            bias = self.adapter[f"{number}.up.bias"]
            z = [x + up @ y + bias for x, y in zip(inputs, inner, strict=True)]
        combine = self.adapter["combine.weight"]
        bias = self.adapter["combine.bias"]
        return [combine @ torch.cat([h, own]) + bias for h, own in zip(states[-1], z, strict=True)]


def states_of(
    adapter: Mapping[str, Tensor], states: list[TensorList]
) -> list[tuple[int, TensorList]]:
    """The states that the numbered parts of an adapter read, lowest first."""
    return [
        (number, state)
        for number, state in enumerate(states)
        if any(n.startswith(f"{number}.") for n in adapter)
    ]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gate(theta: Tensor) -> float:
    return 1 / (1 + math.exp(-float(theta) / 0.1))
