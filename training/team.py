"""The processes of one run: alone, or several that `accelerate launch` started, each with its part
of every batch.

Adapters are small, so that gradients are summed over the processes in one buffer after each
backward pass, the loss with them: all processes take the same step, or stop at the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor


class Team:
    """This process and the others of its run."""

    def __init__(self) -> None:
        self._state = PartialState(cpu=not torch.cuda.is_available())
        self.rank = self._state.process_index
        self.size = self._state.num_processes

    @property
    def device(self) -> str:
        """This process's device; alone it is the best there is."""
        return str(self._state.device) if self.size > 1 else "auto"

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes, validates and reports."""
        return bool(self.rank == 0)

    def sum_gradients(self, parameters: Sequence[Tensor], loss: Tensor | None) -> float:
        """Sum the processes' gradients into `parameters`, and return the sum of their losses.

        Args:
            parameters: what trains, the same on every process.
            loss: this process's share of the batch's; None where it had no part of it.
        """
        if self.size == 1:
            return float(loss.detach()) if loss is not None else 0.0
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        own = (
            parameters[0].new_zeros(1)
            if loss is None
            else loss.detach().reshape(1).to(parameters[0].dtype)
        )
        summed = reduce(torch.cat([gradient.reshape(-1) for gradient in gradients] + [own]), "sum")
        for parameter, part in zip(
            parameters, summed[:-1].split([one.numel() for one in parameters]), strict=True
        ):
            parameter.grad = part.view_as(parameter)
        return float(summed[-1])

    def broadcast(self, value: Any) -> Any:
        """Return the leader's value on every process."""
        return broadcast_object_list([value])[0] if self.size > 1 else value

    def gathered(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of their ranks."""
        return list(gather_object([value])) if self.size > 1 else [value]

    def meet(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leader through before the others: what it leaves on disk they find."""
        with self._state.main_process_first():
            yield
