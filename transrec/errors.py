"""What can be wrong with a backbone or a checkpoint."""

from __future__ import annotations


class ContentError(ValueError):
    """An item that lacks what the backbone reads."""


class BackboneError(ValueError):
    """A folder or checkpoint that is not a backbone we can run;
    says what is wrong and what was expected.
    """
