"""Real ms-swift, mcore-bridge and megatron-core on machines without a GPU.

Megatron imports Transformer Engine and Triton, asks ``torch.cuda`` for devices and NCCL
for process groups. On request, this package answers all four with plain PyTorch on the
CPU, so that the same commands, flags, checkpoints and launch topology can be tried on a
laptop or in CI. It tests orchestration, files and flags; it says nothing about kernels,
fp8, NCCL or speed on a GPU.

    python -m pyswiftops.cpu_backend megatron sft --model ...

Off unless asked for: importing this package changes nothing. The launcher
(``__main__.py``) puts the folder ``bootstrap/`` on ``PYTHONPATH`` and sets
``SWIFTOPS_CPU_BACKEND=1``; every Python process below it (torchrun's ranks too) then
runs ``bootstrap/sitecustomize.py``, which waits for the first ``import torch``.

| module | what it stands for |
|---|---|
| ``hook`` | nothing: installs the others after ``import torch`` |
| ``cuda`` | ``torch.cuda``: streams, events, memory, random state |
| ``devices`` | ``device="cuda"`` in factories and ``Tensor.to`` |
| ``distributed`` | the NCCL backend (becomes gloo) |
| ``transformer_engine`` | the part of Transformer Engine that Megatron touches |
| ``triton_stub`` | ``triton``, as far as importing kernels goes |

What cannot be done here raises ``UnsupportedOnCpuError`` (fp8, fused rotary embedding,
context parallelism, communication overlap) instead of quietly doing something else.
"""

from __future__ import annotations
