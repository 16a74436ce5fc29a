"""NCCL's debug output: what was recorded on two GPUs, and lines as NCCL's own reports have them."""

from __future__ import annotations

from pathlib import Path

from pyswiftops.fabric.nccl_log import ways
from pyswiftops.fabric.node.measuring import nccl_lines

RECORDED = Path(__file__).resolve().parents[2] / "fixtures" / "gpu" / "nccl-node-1.log"

# The forms of NCCL 2.2x as users' reports show them; names, addresses and numbers are made up.
DIRECT = """\
host:101:201 [0] NCCL INFO NCCL_IB_GID_INDEX set by environment to 3.
host:101:201 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/RoCE [1]mlx5_1:1/RoCE [RO]; OOB lo:127.0.0.1
host:101:201 [0] NCCL INFO Using network IB
host:101:201 [0] NCCL INFO NET/IB : GPU Direct RDMA Enabled for HCA 0 'mlx5_0'
host:101:201 [0] NCCL INFO Channel 00/0 : 15[7] -> 0[0] [receive] via NET/IB/0/GDRDMA
host:101:201 [0] NCCL INFO Channel 01/0 : 15[7] -> 0[0] [receive] via NET/IB/0/GDRDMA
host:101:201 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM
host:102:202 [1] NCCL INFO Channel 08/0 : 1[1] -> 8[0] [send] via NET/IB/1(0)/GDRDMA/Shared
"""
# Of the kind of NVIDIA/nccl issues 1537 and 1676: 180 GB/s became 10.
STAGED = """\
host:101:201 [3] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB eth0:192.0.2.1<0>
host:101:201 [3] NCCL INFO Using network IB
host:101:201 [3] NCCL INFO NET/IB : GPU Direct RDMA Disabled for HCA 0 'mlx5_0'
host:101:201 [3] NCCL INFO NET/IB : GPU Direct RDMA Disabled for HCA 1 'mlx5_1'
host:101:201 [3] NCCL INFO Channel 00/0 : 11[3] -> 3[3] [receive] via NET/IB/0
host:101:201 [3] NCCL INFO Channel 00/0 : 3[3] -> 11[3] [send] via NET/IB/1/Shared
"""


def test_channels_that_bypass_host_memory() -> None:
    found = ways(DIRECT.splitlines())
    assert (found.network, found.bypass) == ("IB", "all")
    assert found.cards == {"mlx5_0": "RoCE", "mlx5_1": "RoCE"}
    assert found.direct == {"IB": 3}
    assert found.settings == {"NCCL_IB_GID_INDEX": "3"}
    assert not found.disabled


def test_channels_that_go_through_host_memory_and_why() -> None:
    found = ways(STAGED.splitlines())
    assert (found.network, found.bypass) == ("IB", "none")
    assert found.disabled == ("HCA 0 'mlx5_0'", "HCA 1 'mlx5_1'")
    assert ways([*DIRECT.splitlines(), *STAGED.splitlines()]).bypass == "some"


def test_what_was_recorded_on_two_gpus_without_rdma() -> None:
    found = ways(RECORDED.read_text(encoding="utf-8").splitlines())
    assert found.network == "Socket"
    assert set(found.staged) == {"Socket"}
    assert found.bypass == ""
    assert not found.cards
    assert found.settings["NCCL_P2P_DISABLE"] == "1"


def test_a_plugins_network_is_rdma_too() -> None:
    found = ways(["h:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[0] [send] via NET/AWS Libfabric/0"])
    assert found.rdma == ("AWS Libfabric",)
    assert found.bypass == "none"


def test_the_node_sends_each_kind_of_line_once_and_nothing_is_lost_by_it() -> None:
    for text in (DIRECT, STAGED, RECORDED.read_text(encoding="utf-8")):
        short = nccl_lines(text)
        assert len(short) == len(set(short)) <= len(text.splitlines())
        assert not any("host:1" in line or "the-host" in line for line in short)
        whole, kept = ways(text.splitlines()), ways(short)
        assert (kept.network, kept.bypass, kept.cards) == (whole.network, whole.bypass, whole.cards)
        assert (kept.disabled, kept.settings) == (whole.disabled, whole.settings)
