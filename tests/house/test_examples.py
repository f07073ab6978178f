"""The client's page is a program: its examples run, one after the other, against a real service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.service.conftest import running
from tests.tiny import tiny_adapter, tiny_backbone, tiny_bundle

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def test_the_examples_of_the_clients_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(examples) == 4
    backbone = tiny_backbone(tmp_path / "backbone")
    run = tmp_path / "runs" / "films"
    run.mkdir(parents=True)
    tiny_bundle(run / "bundle.safetensors", backbone, "films", tiny_adapter(backbone, 1))
    monkeypatch.chdir(tmp_path)
    with running(
        Settings(data=tmp_path / "data", backbones=(tmp_path / "backbone",), port=0)
    ) as http:
        monkeypatch.setenv("SWAPREC_URL", str(http.base_url))
        names: dict[str, Any] = {}
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    said = capsys.readouterr().out
    for part in (
        "3 items are searchable",
        "by version none",
        "houlsby",
        "overlap",
        "404 domain_not_found",
    ):
        assert part in said
    assert (tmp_path / "copy.safetensors").read_bytes() == (run / "bundle.safetensors").read_bytes()
