"""The decision: from facts of all nodes to an environment of each, its reasons, and findings."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pyswiftops.network.decide import Decision, decide
from pyswiftops.network.facts import NodeNetwork
from pyswiftops.network.findings import Severity

ETH = {"kind": "physical", "up": True, "mtu": 1500, "speed": 25000, "master": None, "mode": None}


def link(name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    told = [
        {
            "address": address.split("/")[0],
            "prefix": int(address.split("/")[1]),
            "family": 6 if ":" in address else 4,
            "scope": "global",
        }
        for address in addresses
    ]
    return {"name": name, **ETH, **more, "addresses": told}


def hca(name: str, layer: str = "InfiniBand", **more: Any) -> dict[str, Any]:
    base = {"name": name, "port": 1, "driver": "mlx5_core", "link_layer": layer, "active": True}
    return {**base, "rate": 200.0, "interface": None, "gids": [], **more}


def roce(name: str, address: str, index: int = 3, interface: str = "eth9") -> dict[str, Any]:
    gid = {"index": index, "type": "RoCE v2", "gid": f"::ffff:{address}", "interface": interface}
    return hca(name, "Ethernet", interface=interface, gids=[gid])


def fleet(
    count: int = 2, names: tuple[str, ...] = (), **of_all: Any
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Nodes with one interface each, ready to be changed: name -> variables and facts."""
    addresses = [f"10.0.0.{number + 1}" for number in range(count)]
    made = {}
    for number, address in enumerate(addresses):
        name = names[number] if names else "eth0"
        routes = {
            peer: {
                "resolved": peer,
                "interface": "lo" if peer == address else name,
                "source": address,
                "via": None,
                "local": peer == address,
            }
            for peer in addresses
        }
        facts = {
            "interfaces": [link("lo", kind="loopback", mtu=65536), link(name, f"{address}/24")],
            "routes": routes,
            "hcas": [],
            "plugins": [],
            "gpudirect": {"gpus": 8, "peermem": True, "dmabuf": False},
            "preset": [],
            "topology": None,
            **copy.deepcopy(of_all),
        }
        made[f"node-{number + 1}"] = ({"swiftops_address": address}, facts)
    return made


def of(made: dict[str, Any], run: dict[str, str] | None = None) -> Decision:
    return decide(
        [NodeNetwork.of(name, variables, facts, run) for name, (variables, facts) in made.items()]
    )


def codes(decision: Decision) -> list[str]:
    return [mark.code for mark in decision.remarks]


def test_names_differ_from_node_to_node_and_each_gets_its_own() -> None:
    decision = of(fleet(names=("eth0", "ens5")))
    assert decision.environment("node-1")["GLOO_SOCKET_IFNAME"] == "eth0"
    assert decision.environment("node-2") == {
        "GLOO_SOCKET_IFNAME": "ens5",
        "NCCL_SOCKET_IFNAME": "=ens5",
        "VLLM_HOST_IP": "10.0.0.2",
        "SGLANG_HOST_IP": "10.0.0.2",
        "NCCL_IB_DISABLE": "1",
    }
    assert decision.nodes["node-2"]["MASTER_ADDR"].value == "10.0.0.1"
    assert codes(decision) == []


def test_one_node_needs_no_network_and_gets_no_rdma_settings() -> None:
    decision = of(fleet(1, hcas=[hca("mlx5_0")]))
    assert decision.environment("node-1")["GLOO_SOCKET_IFNAME"] == "eth0"
    assert "NCCL_IB_HCA" not in decision.environment("node-1")
    assert codes(decision) == []


def test_nodes_on_one_machine_use_the_loopback() -> None:
    made = fleet()
    for variables, facts in made.values():
        variables["swiftops_address"] = "127.0.0.1"
        facts["routes"] = {
            "127.0.0.1": {
                "resolved": "127.0.0.1",
                "interface": "lo",
                "source": "127.0.0.1",
                "via": None,
                "local": True,
            }
        }
    decision = of(made)
    assert decision.environment("node-2")["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_node_that_told_nothing_is_named_and_the_others_are_decided() -> None:
    made = fleet(3)
    made["node-2"] = (made["node-2"][0], None)  # type: ignore[assignment]
    decision = of(made)
    assert codes(decision) == ["no_facts"]
    assert decision.environment("node-1")["GLOO_SOCKET_IFNAME"] == "eth0"
    assert "GLOO_SOCKET_IFNAME" not in decision.environment("node-2")


@pytest.mark.parametrize("plugins", [[], ["/opt/hpcx/lib/libnccl-net.so"]])
def test_infiniband_on_all_nodes_is_used(plugins: list[str]) -> None:
    ports = [hca("mlx5_2"), hca("mlx5_3", active=False), hca("mlx5_10")]
    environment = of(fleet(hcas=ports, plugins=plugins)).environment("node-1")
    assert environment["NCCL_IB_HCA"] == "=mlx5_2:1,mlx5_10:1"
    assert environment["NCCL_IB_DISABLE"] == "0"
    assert not {"NCCL_NET", "NCCL_IBEXT_DISABLE", "NCCL_IB_GID_INDEX"} & set(environment)


def test_a_plugin_that_only_some_nodes_have_is_kept_out() -> None:
    made = fleet(hcas=[hca("mlx5_0")])
    made["node-2"][1]["plugins"] = ["/usr/lib/libnccl-net.so"]
    decision = of(made)
    for node in made:
        assert decision.environment(node)["NCCL_NET"] == "IB"
        assert decision.environment(node)["NCCL_IBEXT_DISABLE"] == "1"
    assert codes(decision) == ["plugin_not_everywhere"]


def test_the_odd_node_of_a_mixed_fleet_is_named_and_all_use_sockets() -> None:
    made = fleet(4, hcas=[hca("mlx5_0")])
    made["node-3"][1]["hcas"] = []
    decision = of(made)
    assert decision.fabric == "mixed"
    for node in made:
        environment = decision.environment(node)
        assert environment["NCCL_NET"] == "Socket"
        assert environment["NCCL_IB_DISABLE"] == environment["NCCL_IBEXT_DISABLE"] == "1"
        assert "NCCL_IB_HCA" not in environment
    [mark] = decision.remarks
    assert mark.code == "mixed_fabrics"
    assert "leave node-3 out" in mark.finding.remedy


def test_what_all_nodes_have_is_used_though_some_have_more() -> None:
    made = fleet(hcas=[roce("mlx5_1", "10.1.0.1")])
    made["node-1"][1]["hcas"].append(hca("mlx5_0"))
    decision = of(made)
    assert decision.fabric == "roce"
    assert decision.environment("node-1")["NCCL_IB_HCA"] == "=mlx5_1:1"


def test_roce_gets_the_index_that_its_ports_share() -> None:
    ports = [roce("mlx5_0", "10.1.0.1"), roce("mlx5_1", "10.1.1.1")]
    environment = of(fleet(hcas=ports)).environment("node-1")
    assert environment["NCCL_IB_GID_INDEX"] == "3"
    assert "NCCL_IB_ROCE_VERSION_NUM" not in environment


def test_an_automatic_address_of_a_roce_port_is_none() -> None:
    ports = [roce("mlx5_0", "10.1.0.1"), roce("mlx5_1", "169.254.3.4")]
    decision = of(fleet(hcas=ports))
    assert decision.environment("node-1")["NCCL_IB_HCA"] == "=mlx5_0:1"
    assert "roce_without_address" in codes(decision)


def test_a_roce_port_of_a_network_that_not_all_nodes_are_on_is_left_out() -> None:
    made = fleet()
    made["node-1"][1]["interfaces"] += [link("a", "10.100.0.1/24"), link("b", "10.7.0.2/24")]
    made["node-1"][1]["hcas"] = [
        roce("mlx5_0", "10.7.0.2", interface="b"),
        roce("mlx5_1", "10.100.0.1", interface="a"),
    ]
    made["node-2"][1]["interfaces"] += [link("c", "10.100.0.2/24")]
    made["node-2"][1]["hcas"] = [roce("mlx5_0", "10.100.0.2", interface="c")]
    decision = of(made)
    assert decision.environment("node-1")["NCCL_IB_HCA"] == "=mlx5_1:1"
    assert "its network is not on all nodes" in decision.nodes["node-1"]["NCCL_IB_HCA"].why
    assert codes(decision) == []


def test_slow_ports_are_left_out_with_the_reason() -> None:
    decision = of(fleet(hcas=[hca("mlx5_0"), hca("mlx5_1", rate=100.0)]))
    value = decision.nodes["node-1"]["NCCL_IB_HCA"]
    assert value.value == "=mlx5_0:1"
    assert "mlx5_1:1 left out: 100 of 200 Gb/s" in value.why


def test_efa_with_its_plugin_is_left_to_it() -> None:
    port = hca("rdmap16s27", "Unknown", driver="efa")
    decision = of(fleet(hcas=[port], plugins=["/opt/amazon/ofi-nccl/lib/libnccl-net.so"]))
    assert decision.fabric == "efa"
    assert not [name for name in decision.environment("node-1") if name.startswith("NCCL_IB")]


def test_gpudirect_that_is_off_is_a_warning_and_only_where_there_are_gpus() -> None:
    off = {"gpus": 8, "peermem": False, "dmabuf": False}
    assert codes(of(fleet(hcas=[hca("mlx5_0")], gpudirect=off))) == ["gpudirect_off"] * 2
    assert codes(of(fleet(hcas=[hca("mlx5_0")], gpudirect={**off, "dmabuf": True}))) == []
    assert codes(of(fleet(hcas=[hca("mlx5_0")], gpudirect={**off, "gpus": 0}))) == []


def test_what_fleet_and_run_say_wins_and_the_reason_says_so() -> None:
    made = fleet(hcas=[hca("mlx5_0")])
    for variables, _ in made.values():
        variables["swiftops_env"] = {"NCCL_IB_HCA": "mlx5_7"}
    decision = of(made, run={"NCCL_IB_DISABLE": "1"})
    values = decision.nodes["node-1"]
    assert (values["NCCL_IB_HCA"].value, values["NCCL_IB_HCA"].source) == ("mlx5_7", "fleet")
    assert values["NCCL_IB_HCA"].why == "env of the fleet file; derived: =mlx5_0:1"
    assert values["NCCL_IB_DISABLE"].why.startswith("training.env of the run file")
    assert not {"NCCL_IB_HCA", "NCCL_IB_DISABLE"} & set(decision.environment("node-1"))


def test_what_the_machine_sets_stays_and_is_noted_where_facts_say_otherwise() -> None:
    preset = [
        {"name": "NCCL_SOCKET_IFNAME", "value": "eth0", "where": "/etc/nccl.conf"},
        {"name": "NCCL_IB_HCA", "value": "mlx5_9", "where": "/etc/nccl.conf"},
    ]
    decision = of(fleet(hcas=[hca("mlx5_0")], preset=preset))
    assert not {"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA"} & set(decision.environment("node-1"))
    assert decision.nodes["node-1"]["NCCL_IB_HCA"].source == "machine"
    assert codes(decision) == ["machine_says_otherwise"] * 2  # one a node, of the HCA alone


def test_the_interface_that_the_fleet_names_wins_even_over_the_machine() -> None:
    preset = [{"name": "NCCL_SOCKET_IFNAME", "value": "eth7", "where": "/etc/nccl.conf"}]
    made = fleet(preset=preset)
    for variables, facts in made.values():
        variables["swiftops_interface"] = "eth1"
        facts["interfaces"].append(link("eth1", "10.9.0.1/24"))
    decision = of(made)
    assert decision.environment("node-1")["NCCL_SOCKET_IFNAME"] == "=eth1"
    assert set(codes(decision)) == {"interface_not_of_route"}


def test_several_ways_to_peers_take_that_to_the_first_node() -> None:
    made = fleet(3)
    routes = made["node-3"][1]["routes"]
    routes["10.0.0.2"] = {**routes["10.0.0.2"], "interface": "eth1", "source": "10.5.0.3"}
    made["node-3"][1]["interfaces"].append(link("eth1", "10.5.0.3/24"))
    decision = of(made)
    assert decision.environment("node-3")["GLOO_SOCKET_IFNAME"] == "eth0"
    assert "several_interfaces" in codes(decision)


def test_a_name_that_stands_for_the_loopback_is_named() -> None:
    made = fleet()
    routes = made["node-1"][1]["routes"]
    routes["10.0.0.2"] = {**routes["10.0.0.2"], "resolved": "127.0.1.1", "local": True}
    assert "peer_is_loopback" in codes(of(made))


def test_a_much_faster_network_is_proposed_with_the_lines_to_write() -> None:
    made = fleet()
    for number, (_, facts) in enumerate(made.values(), 1):
        facts["interfaces"].append(link("eth1", f"10.5.0.{number}/24", speed=100000))
    [mark] = of(made).remarks
    assert (mark.code, mark.severity) == ("faster_network", Severity.NOTE)
    assert "node-1: 10.5.0.1, node-2: 10.5.0.2" in mark.finding.remedy
    for _, facts in made.values():
        facts["hcas"] = [hca("mlx5_0")]
    assert codes(of(made)) == []  # data go over InfiniBand


def test_a_tunnel_and_an_address_behind_nat_are_warnings() -> None:
    made = fleet()
    for _, facts in made.values():
        facts["interfaces"][1]["kind"] = "wireguard"
    assert set(codes(of(made))) == {"tunnel"}
    made = fleet()
    made["node-1"][0]["swiftops_address"] = "192.0.2.1"
    routes = made["node-2"][1]["routes"]
    routes["192.0.2.1"] = {**routes["10.0.0.1"], "resolved": "192.0.2.1"}
    assert "master_address_not_here" in codes(of(made))


def test_the_worst_comes_first_and_every_finding_has_a_remedy() -> None:
    made = fleet(3, hcas=[hca("mlx5_0")], gpudirect={"gpus": 8, "peermem": False, "dmabuf": False})
    made["node-1"][1]["routes"]["10.0.0.3"] = {"resolved": "10.0.0.3", "error": "unreachable"}
    made["node-2"][1]["interfaces"][1]["mtu"] = 9000
    remarks = of(made).remarks
    order = [list(Severity).index(mark.severity) for mark in remarks]
    assert order == sorted(order)
    assert remarks[0].code == "no_route"
    for mark in remarks:
        finding = mark.finding
        assert all((finding.expected, finding.found, finding.where, finding.remedy))
