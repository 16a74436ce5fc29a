"""The backend is off unless asked for, loud when on, and refuses half a job."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pyswiftops
from pyswiftops.cpu_backend.guard import BOOTSTRAP

LAUNCHER = (sys.executable, "-m", "pyswiftops.cpu_backend")
LOUD = "pyswiftops CPU backend: Transformer Engine, CUDA and NCCL are plain-torch stand-ins"
PACKAGE_ROOT = str(Path(pyswiftops.__file__).resolve().parents[1])


def run(
    *argv: str,
    env: dict[str, str] | None = None,
    python_path: tuple[str, ...] = (PACKAGE_ROOT,),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` in a clean environment whose PYTHONPATH is ``python_path``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SWIFTOPS_"))}
    clean |= {"PYTHONPATH": os.pathsep.join(python_path), **(env or {})}
    return subprocess.run(argv, env=clean, cwd=cwd, capture_output=True, text=True, check=False)


def test_importing_the_package_changes_nothing() -> None:
    code = (
        "import sys, os; before = list(sys.meta_path), dict(os.environ); "
        "import pyswiftops.cpu_backend; "
        "assert before == (list(sys.meta_path), dict(os.environ)); "
        "print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    result = run(sys.executable, "-c", code)
    assert (result.stdout, result.stderr) == ("False False\n", "")


def test_off_unless_asked_for_even_with_bootstrap_on_the_path() -> None:
    code = (
        "import sys, sitecustomize; print(sitecustomize.__file__); "
        "print([finder for finder in sys.meta_path if 'Torch' in repr(finder)])"
    )
    result = run(sys.executable, "-c", code, python_path=(str(BOOTSTRAP), PACKAGE_ROOT))
    assert result.stdout == f"{BOOTSTRAP / 'sitecustomize.py'}\n[]\n"
    assert result.stderr == ""


def test_says_so_once_a_process_and_only_where_torch_is_imported() -> None:
    code = (
        "import subprocess, sys; "
        "subprocess.run([sys.executable, '-c', 'print(1)']); "
        "subprocess.run([sys.executable, '-c', 'import torch, torch.nn']); "
    )
    result = run(*LAUNCHER, sys.executable, "-c", code)
    assert result.stderr.count(LOUD) == 1
    assert "not for production" in result.stderr
    assert len(result.stderr.splitlines()) == 1


ON_CPU = """
import torch

cuda = torch.cuda
assert cuda.is_available() and cuda.device_count() == 1
x = torch.zeros(2, device="cuda", pin_memory=True)
tensors = [
    x,
    x.cuda(),
    x.to("cuda:0"),
    x.to(cuda.current_device()),
    x.new_ones(2, device="cuda"),
    torch.tensor([1], device=cuda.current_device()),
    torch.ones_like(x, device="cuda"),
    torch.nn.Linear(2, 2, device="cuda").to(torch.device("cuda")).weight,
]
with torch.device("cuda"):
    tensors.append(torch.empty(1))
assert {str(tensor.device) for tensor in tensors} == {"cpu"}
with torch.device("meta"):
    assert torch.empty(1).is_meta  # transformers builds models this way

# Megatron's optimizers ask for this very name.
assert x.type() == "torch.cuda.FloatTensor" and x.type(torch.int64).dtype is torch.int64

with cuda.stream(cuda.Stream()):
    cuda.current_stream().wait_stream(cuda.default_stream())
start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
start.record(), end.record(), cuda.synchronize()
assert start.elapsed_time(end) >= 0

state = cuda.get_rng_state()
first = torch.rand(3)
cuda.set_rng_state(state)
assert torch.equal(first, torch.rand(3, device="cuda"))


@torch.jit.script
def scripted(n: int):  # TorchScript finds wrapped factories in its own table
    return torch.zeros([n]) + torch.arange(n)


assert scripted(3).tolist() == [0, 1, 2]
print("done")
"""


def test_cuda_calls_land_on_the_cpu(tmp_path: Path) -> None:
    source = tmp_path / "program.py"
    source.write_text(ON_CPU)
    result = run(*LAUNCHER, sys.executable, str(source))
    assert result.stdout == "done\n", result.stderr


def test_two_processes_that_ask_for_nccl_get_gloo(tmp_path: Path) -> None:
    rendezvous = tmp_path / "rendezvous"
    code = f"""
        import sys, torch, torch.distributed as dist
        rank = int(sys.argv[1])
        dist.init_process_group("nccl", init_method="file://{rendezvous}", rank=rank, world_size=2,
                                device_id=torch.device("cuda", rank))
        x = torch.full((2,), float(rank + 1), device="cuda")
        dist.all_reduce(x, group=dist.new_group([0, 1], backend="nccl"))
        print(dist.get_backend(), x.tolist())
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SWIFTOPS_")}
    clean["PYTHONPATH"] = PACKAGE_ROOT
    argv = [*LAUNCHER, sys.executable, "-c", textwrap.dedent(code)]
    ranks = [
        subprocess.Popen([*argv, str(rank)], env=clean, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=300)[0] for rank in ranks] == ["gloo [3.0, 3.0]\n"] * 2


@pytest.mark.slow
def test_megatron_imports_in_either_order_with_transformers() -> None:
    """Megatron's imports put a Triton stub up, which transformers must not take for real."""
    code = textwrap.dedent(
        """
        import warnings; warnings.simplefilter("ignore")
        import megatron.core.extensions.transformer_engine as extension
        from megatron.core.optimizer.distrib_optimizer import USING_TE_OPTIMIZER
        import transformers.modeling_utils
        import mcore_bridge
        from torch.utils._triton import has_triton_package
        assert not has_triton_package()
        print(extension.HAVE_TE, USING_TE_OPTIMIZER, extension.TELinear.__mro__[1].__module__)
        """
    )
    result = run(*LAUNCHER, sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "True True pyswiftops.cpu_backend.transformer_engine.layers\n"


def test_the_launcher_keeps_the_users_pythonpath_and_dynamo_setting() -> None:
    code = "import os; print(os.environ['PYTHONPATH'], os.environ['TORCHDYNAMO_DISABLE'])"
    path = (PACKAGE_ROOT, "/elsewhere")
    result = run(
        *LAUNCHER, sys.executable, "-c", code, env={"TORCHDYNAMO_DISABLE": "0"}, python_path=path
    )
    assert result.stdout == os.pathsep.join([str(BOOTSTRAP), *path]) + " 0\n"


def test_the_exit_code_is_the_programs() -> None:
    assert run(*LAUNCHER, sys.executable, "-c", "raise SystemExit(7)").returncode == 7


@pytest.mark.parametrize("argv", [(), ("--help",)])
def test_without_a_program_the_launcher_exits_2_with_its_usage(argv: tuple[str, ...]) -> None:
    result = run(*LAUNCHER, *argv)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m pyswiftops.cpu_backend PROGRAM")
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_program_exits_2_and_is_named() -> None:
    result = run(*LAUNCHER, "no-such-program-here")
    assert result.returncode == 2
    assert "cannot run 'no-such-program-here'" in result.stderr


def test_a_shadowed_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the site has spoken')\n")
    result = run(*LAUNCHER, sys.executable, "-c", "", python_path=(PACKAGE_ROOT, str(tmp_path)))
    assert "the site has spoken" in result.stdout


@pytest.fixture(params=["package", "metadata"])
def fake_transformer_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that looks as if a real Transformer Engine were installed there."""
    if request.param == "package":
        (tmp_path / "transformer_engine").mkdir()
        (tmp_path / "transformer_engine" / "__init__.py").touch()
    else:
        info = tmp_path / "transformer_engine-2.16.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: transformer-engine\nVersion: 2.16.0\n"
        )
    return tmp_path


def test_the_launcher_refuses_to_hide_a_real_transformer_engine(
    fake_transformer_engine: Path,
) -> None:
    path = (PACKAGE_ROOT, str(fake_transformer_engine))
    result = run(*LAUNCHER, sys.executable, "-c", "print('ran')", python_path=path)
    assert (result.returncode, result.stdout) == (2, "")
    assert str(fake_transformer_engine) in result.stderr
    assert "device: gpu" in result.stderr


def test_so_does_a_process_whose_python_differs_from_the_launchers(
    fake_transformer_engine: Path,
) -> None:
    result = run(
        sys.executable,
        "-c",
        "import torch",
        env={"SWIFTOPS_CPU_BACKEND": "1"},
        python_path=(str(BOOTSTRAP), PACKAGE_ROOT, str(fake_transformer_engine)),
    )
    assert result.returncode == 1
    assert "must not hide it; set `device: gpu`" in result.stderr


def test_a_python_without_pyswiftops_is_told_to_install_it(tmp_path: Path) -> None:
    """A package that raises ImportError stands for one that is not installed."""
    (tmp_path / "pyswiftops").mkdir()
    (tmp_path / "pyswiftops" / "__init__.py").write_text("raise ImportError('not here')\n")
    result = run(
        sys.executable,
        "-c",
        "import torch",
        env={"SWIFTOPS_CPU_BACKEND": "1"},
        python_path=(str(BOOTSTRAP), str(tmp_path)),
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert "install pyswiftops into that Python environment" in result.stderr
