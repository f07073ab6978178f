"""A spec is read from any plain value:
the same again after it was written, or refused with every problem named.
"""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transrec.adapters import KINDS, AdapterSpec, SpecError
from transrec.adapters.spec import Named, Positions, Side

COUNTS = st.integers(1, 65_536)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "hidden": COUNTS,
    "positions": st.sampled_from(get_args(Positions)),
    "layers": st.sampled_from(get_args(Named))
    | COUNTS
    | st.lists(st.integers(0, 100), min_size=1, max_size=4),
    "train_layer_norm": st.booleans(),
    "alpha": st.floats(0, 65_535, exclude_min=True) | st.integers(1, 65_535),
    "n": COUNTS,
    "tokens": COUNTS,
    "heads": COUNTS,
}
WRONG: dict[str, Any] = {
    "hidden": 0,
    "positions": "nowhere",
    "layers": [],
    "train_layer_norm": 1,
    "compat": 3,
    "alpha": float("nan"),
    "n": True,
    "tokens": 65_537,
    "heads": 2.0,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*KINDS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["item", "user", "kind", "compat", *RIGHT]) | st.text(max_size=5), inner
        )
    ),
    max_leaves=12,
)


@st.composite
def sides(draw: st.DrawFn, side: Side) -> dict[str, Any]:
    """Settings that are right for a side."""
    fitting = [
        kind
        for kind in KINDS.values()
        if not (kind.item_only if side == "user" else kind.user_only)
    ]
    kind = draw(st.sampled_from(fitting))
    strategies = {key: RIGHT[key] for key in kind.keys if key in RIGHT}
    if kind.compats:
        strategies["compat"] = st.sampled_from(kind.compats)
    return {"kind": kind.kind, **draw(st.fixed_dictionaries({}, optional=strategies))}


SPECS = st.fixed_dictionaries({}, optional={"item": sides("item"), "user": sides("user")})


@given(SPECS)
def test_a_spec_that_is_written_is_read_back_as_it_was(value: dict[str, Any]) -> None:
    spec = AdapterSpec.parse(value)
    assert AdapterSpec.parse(spec.to_json()) == spec
    assert AdapterSpec.parse(spec.to_json()).to_json() == spec.to_json()
    for name, given_side in value.items():
        written = spec.to_json()[name]
        assert {key: written[key] for key in given_side} == given_side, "what was given is kept"


@given(st.dictionaries(st.sampled_from(["item", "user"]) | st.text(max_size=5), JSON, max_size=3))
def test_any_plain_value_is_read_or_refused_with_its_problems(value: dict[str, Any]) -> None:
    problems = None
    try:
        spec = AdapterSpec.parse(value)
    except SpecError as error:
        problems = error.problems
    if problems is None:
        assert AdapterSpec.parse(spec.to_json()) == spec
    else:
        assert problems
        assert all(problems)


@given(sides("item"), st.data())
def test_every_wrong_setting_is_named_in_one_error(
    value: dict[str, Any], data: st.DataObject
) -> None:
    known = [key for key in WRONG if key in KINDS[value["kind"]].keys]
    assume(known)
    wrong = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    with pytest.raises(SpecError) as caught:
        AdapterSpec.parse({"item": value | {key: WRONG[key] for key in wrong}})
    named = {problem.partition(":")[0] for problem in caught.value.problems}
    assert named == {f"item.{key}" for key in wrong}
