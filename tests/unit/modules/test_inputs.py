"""The module ``inputs``: what it finds before a run, without changing anything."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    row = {"messages": [{"role": "assistant", "content": "x"}]}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


def look(run_module: RunModule, model: Path, rows: Path, **more: Any) -> dict[str, Any]:
    arguments = {"model": str(model), "datasets": [str(rows)], "root": str(model.parent / "root")}
    return run_module("inputs", **{**arguments, **more})


def test_good_inputs_have_no_findings(run_module: RunModule, model: Path, rows: Path) -> None:
    result = look(run_module, model, rows)
    assert result["findings"] == []
    assert result["rows"] == 1
    assert result["model"]["num_hidden_layers"] == 30
    assert not (model.parent / "root").exists()


def test_sizes_of_multimodal_models_are_found(
    run_module: RunModule, model: Path, rows: Path
) -> None:
    config = {"model_type": "x", "text_config": {"num_hidden_layers": 4}}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert look(run_module, model, rows)["model"] == {"model_type": "x", "num_hidden_layers": 4}


def said(result: dict[str, Any]) -> str:
    return json.dumps(result["findings"])


def test_a_folder_without_config_json_is_no_model(
    run_module: RunModule, model: Path, rows: Path
) -> None:
    (model / "config.json").unlink()
    assert "no config.json" in said(look(run_module, model, rows))
    assert "no such folder" in said(look(run_module, model / "none", rows))


def test_missing_empty_and_malformed_rows(run_module: RunModule, model: Path, rows: Path) -> None:
    assert "no such file" in said(look(run_module, model, rows.with_name("none")))
    rows.write_text("{\n", encoding="utf-8")
    assert f"{rows}:1" in said(look(run_module, model, rows))
    rows.write_text("", encoding="utf-8")
    assert "an empty file" in said(look(run_module, model, rows))


def test_a_root_that_cannot_be_a_folder(run_module: RunModule, model: Path, rows: Path) -> None:
    result = look(run_module, model, rows, root=str(rows / "below a file"))
    assert "is not a folder" in said(result)


def test_the_release_line_is_read_from_the_nodes_python(
    run_module: RunModule, model: Path, rows: Path
) -> None:
    good = look(run_module, model, rows, python=sys.executable, line="4.6")
    assert good["findings"] == []
    other = look(run_module, model, rows, python=sys.executable, line="3.12")
    assert '"expected": "ms-swift 3.12", "found": "4.6.0"' in said(other)
    none = look(run_module, model, rows, python="/no/such/python", line="4.6")
    assert "No such file" in said(none)


def test_a_taken_port(run_module: RunModule, model: Path, rows: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert "port taken" in said(look(run_module, model, rows, ports=[port]))
    assert look(run_module, model, rows, ports=[port])["findings"] == []
