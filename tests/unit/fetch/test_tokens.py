"""Tokens of hubs: from the environment or from a file that nobody else can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyswiftops.errors import BadInputError
from pyswiftops.tokens import hub_tokens


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("# mine\n\nHF_TOKEN = a=b\nMODELSCOPE_API_TOKEN=c\n", encoding="utf-8")
    path.chmod(0o600)
    found = hub_tokens(str(path), {"MODELSCOPE_API_TOKEN": "d", "HF_TOKEN": "", "OTHER_TOKEN": "e"})
    assert found == {"HF_TOKEN": "a=b", "MODELSCOPE_API_TOKEN": "d"}
    assert hub_tokens(None, {}) == {}


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("HF_TOKEN=a\n", encoding="utf-8")
    path.chmod(0o640)
    with pytest.raises(BadInputError, match="chmod 600"):
        hub_tokens(str(path), {})
    with pytest.raises(BadInputError, match="No such file"):
        hub_tokens(str(tmp_path / "none"), {})


def test_a_wrong_line_is_named_but_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("HF_TOKEN=a\nsecret-without-name\n", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(BadInputError) as caught:
        hub_tokens(str(path), {})
    assert f"{path}:2" in str(caught.value)
    assert "secret-without-name" not in str(caught.value)
