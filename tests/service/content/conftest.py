from __future__ import annotations

from pathlib import Path

import pytest

from service.content.blobs import Blobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder)
