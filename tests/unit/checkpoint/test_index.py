from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pyswiftops.fleet.plugins.module_utils import torch_dist_index as index

MEGATRON_NEEDED = {
    "__0_0.distcp": 8582182,
    "__0_1.distcp": 8616082,
    "__1_0.distcp": 8582182,
    "__1_1.distcp": 8616018,
}
"""The sizes of the shard files that the two nodes wrote."""


def load(path: Path) -> dict[str, int]:
    needed: dict[str, int] = index.needed_files(index.load_index(path), path)
    return needed


def sizes(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in sorted(folder.glob("*.distcp"))}


def test_the_index_of_one_process_asks_for_what_torch_wrote(saved: Path) -> None:
    needed = load(saved / "alone/.metadata")
    assert needed == sizes(saved / "alone")
    assert len(needed) == 4


def test_the_index_of_two_ranks_asks_for_both_ranks_shards(saved: Path) -> None:
    needed = load(saved / "shared/.metadata")
    assert needed == sizes(saved / "shared")
    assert {name[:4] for name in needed} == {"__0_", "__1_"}


def test_torch_reads_the_same_from_it(saved: Path) -> None:
    theirs = json.loads((saved / "read_by_torch.json").read_text())
    ours = index.load_index(saved / "shared/.metadata")
    assert index.tensor_names(ours) == theirs["names"]
    assert index.needed_files(ours) == theirs["ends"]


def test_a_megatron_index_is_read(megatron_index: Path) -> None:
    assert load(megatron_index) == MEGATRON_NEEDED
    names = index.tensor_names(index.load_index(megatron_index))
    assert any("lora_A" in name for name in names)
    assert any(name.startswith("optimizer.") for name in names)


def test_reading_imports_neither_torch_nor_megatron(megatron_index: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import torch_dist_index as i\n"
        "from pathlib import Path; i.load_index(Path(sys.argv[2]))\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'megatron'}))"
    )
    folder = Path(__file__).resolve().parents[3] / "plugins/module_utils"
    argv = [sys.executable, "-c", code, str(folder), str(megatron_index)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


@pytest.mark.parametrize(
    ("function", "refused"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (__import__, "builtins.__import__"),
        (subprocess.run, "subprocess.run"),
        (pickle.loads, "_pickle.loads"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_call_in_the_index_is_refused_by_name_and_not_run(
    tmp_path: Path, function: Any, refused: str, protocol: int
) -> None:
    mark = tmp_path / "ran"
    command = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    path = tmp_path / ".metadata"
    path.write_bytes(
        pickle.dumps({"storage_data": Runs(function, command)}, protocol, fix_imports=False)
    )

    with pytest.raises(index.RefusedGlobalError) as error:
        index.load_index(path)
    assert f"it names {refused}, " in str(error.value)
    assert str(path) in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("torch", "load"),
        ("torch", "hub.load"),
        ("torch", "float32.__class__"),
        ("torch.serialization", "load"),
        ("torch.distributed.checkpoint.metadata", "os.system"),
        ("torch.distributed.checkpoint.metadata", "Metadata.__init__"),
        ("torch.distributed.checkpoint.filesystem", "os"),
        ("builtins", "getattr.__self__"),
        ("os", "system"),
        ("collections", "namedtuple"),
        ("pathlib", "os"),
        ("", ""),
    ],
)
def test_only_exact_names_are_known(tmp_path: Path, module: str, attribute: str) -> None:
    path = tmp_path / ".metadata"
    path.write_bytes(opcodes(name(module, attribute)))
    with pytest.raises(index.RefusedGlobalError, match=r"refused .*nothing was run"):
        index.load_index(path)


def test_getattr_stands_for_nothing_but_itself(tmp_path: Path) -> None:
    """Python 3.11.0 to 3.11.3 pickle enum members so; it must not reach a real attribute."""
    path = tmp_path / ".metadata"
    call = name("builtins", "getattr") + name("torch", "Size") + text("__subclasses__") + b"\x86R"
    path.write_bytes(opcodes(call + b")R"))  # getattr(Size, '__subclasses__')()
    with pytest.raises(index.TorchDistError):
        index.load_index(path)


def test_stand_ins_cannot_be_changed_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / ".metadata"
    state = b"N}" + text("field") + text("x") + b"s\x86b"  # BUILD (None, {"field": "x"})
    path.write_bytes(opcodes(name("torch", "Size") + state))
    with pytest.raises(index.TorchDistError):
        index.load_index(path)
    path.write_bytes(opcodes(name("collections", "OrderedDict") + state))
    with pytest.raises(index.TorchDistError):
        index.load_index(path)
    assert callable(index.Inert.field)


def test_references_out_of_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / ".metadata"
    path.write_bytes(opcodes(text("somewhere") + b"Q"))
    with pytest.raises(index.RefusedGlobalError, match="persistent id 'somewhere'"):
        index.load_index(path)


@pytest.mark.parametrize("cut", [0, 1, 2, 100, 3000, -1])
def test_a_cut_off_index_says_so(megatron_index: Path, cut: int) -> None:
    megatron_index.write_bytes(megatron_index.read_bytes()[:cut])
    with pytest.raises(index.TorchDistError, match=r"found bytes that are none.*Copy it again"):
        index.load_index(megatron_index)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, os.urandom(4096), b"hello", b"\x80\x04K\x01.", b"\x80\x05]."]
)
def test_what_is_no_index_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".metadata").write_bytes(data)
    with pytest.raises(index.TorchDistError, match=r"expected .* in .*, found"):
        index.load_index(tmp_path / ".metadata")


def test_an_index_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(index.TorchDistError, match=r"cannot read .*No such file"):
        index.load_index(tmp_path / ".metadata")


@pytest.mark.parametrize(
    "change",
    [
        {"relative_path": "../../etc/passwd"},
        {"relative_path": "/etc/passwd"},
        {"relative_path": ".."},
        {"relative_path": ""},
        {"relative_path": None},
        {"offset": -1},
        {"offset": True},
        {"length": "9"},
        {"length": None},
    ],
)
def test_a_shard_that_could_not_be_one_is_refused(change: dict[str, Any]) -> None:
    """Entries come from another node."""
    info = index.Inert()
    info.__setstate__({"relative_path": "__0_0.distcp", "offset": 0, "length": 9, **change})
    root = index.Inert()
    root.__setstate__({"storage_data": {1: info}})
    with pytest.raises(index.TorchDistError, match="expected a shard file and a range"):
        index.needed_files(root)


@pytest.mark.parametrize("storage", [None, {}, [], {1: "x"}])
def test_an_index_without_shards_is_refused(storage: object) -> None:
    root = index.Inert()
    root.__setstate__({"storage_data": storage})
    with pytest.raises(index.TorchDistError):
        index.needed_files(root)
