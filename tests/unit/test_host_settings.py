"""Proxy, shell, limits: what nodes get, what is refused, and what goes when the field goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyswiftops.errors import BadInputError, FleetError
from pyswiftops.settings import proxy, shell, tuning
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.hosts import CUDA_HOME, Proxy

GIVEN = {"http": "http://p.example:3128", "no_proxy": ["node-1", "10.8.0.0/16", ".lab.example"]}


def fleet(**more: Any) -> Fleet:
    document = {
        "plugin": "pyswiftops.fleet.fleet",
        "runtime": "container",
        "hosts": [{"name": "host-1"}],
        "container": {
            "image": {"build": {"wheelhouse": "w"}},
            "network": {"subnet": "10.8.0.0/16"},
        },
        "nodes": [{"name": "node-1"}, {"name": "node-2"}],
        **more,
    }
    return Fleet.from_document(document, Path("/nowhere/fleet.yml"))


def test_the_fleets_own_places_always_go_past_the_proxy() -> None:
    given = {"http": "http://p.example:3128", "no_proxy": ["mirror"], "engine": True}
    found = fleet(proxy=given)
    past = found.host_vars()["node-1"]["swiftops_proxy"]["no_proxy"]
    assert {"node-1", "node-2", "10.8.0.10", "10.8.0.11", "10.8.0.0/16", "mirror"} <= set(past)
    engine = found.machine_vars()["host-1"]["swiftops_container"]["engine"]
    assert engine["proxy"] == given["http"]
    assert set(past) <= set(engine["no_proxy"])
    variables = proxy.proxy_environment(found.proxy.model_dump() if found.proxy else {}, None)
    assert variables["no_proxy"].startswith("localhost,127.0.0.1,::1")
    assert "http_proxy" not in variables


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("proxy", {"http": "http://me:secret@p:1"}, "proxy_login"),
        ("proxy", {"http": "p.example:3128"}, "a URL"),
        ("proxy", {"http": "http://p:1", "no_proxy": ["a b"]}, "one an entry"),
        ("dev_shell", {"plugins": ["$(x)"]}, "letters, digits"),
        ("dev_shell", {"oh_my_zsh": {"sha256": "0" * 64}}, "exactly one of path and url"),
        ("host_tuning", {"limits": {"nofile": "unlimited"}}, "logins would end"),
        ("host_tuning", {"limits": {"nofile": 1}}, "container.ulimits"),
        ("host_tuning", {"sysctl": {"../../etc/x": 1}}, "names of kernel settings"),
        ("cuda_toolkit", {"path": "/usr/local/cuda"}, "method path"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(FleetError, match=says):
        fleet(**{field: value})


def test_jobs_know_the_toolkit_unless_told_another() -> None:
    found = fleet(cuda_toolkit={}).host_vars()["node-1"]["swiftops_env"]
    assert found == {"CUDA_HOME": CUDA_HOME}
    more = fleet(cuda_toolkit={}, env={"CUDA_HOME": "/mine"}).host_vars()["node-1"]
    assert more["swiftops_env"] == {"CUDA_HOME": "/mine"}
    assert fleet().host_vars()["node-1"]["swiftops_env"] == {}


@pytest.mark.parametrize(
    ("host", "past"),
    [("node-1", True), ("10.8.3.4", True), ("a.lab.example", True), ("pypi.example", False)],
)
def test_what_goes_past_the_proxy(host: str, past: bool) -> None:
    assert proxy.is_past(Proxy.model_validate(GIVEN), host) is past


def test_pip_has_one_way_for_all_its_indexes() -> None:
    asked, near, far = Proxy.model_validate(GIVEN), "http://node-1/simple", "http://far/simple"
    assert proxy.pip_proxy(asked, [near]) == ""
    assert "proxy = http://p.example:3128" in proxy.pip_proxy(asked, [far])
    with pytest.raises(BadInputError, match="one way for all"):
        proxy.pip_proxy(asked, [near, far])


def test_without_the_field_everything_written_goes() -> None:
    for part in (proxy.proxy_part, shell.shell_part):
        kinds = {item["type"] for item in part({})["resources"]}
        assert kinds == {"absent", "no_lines"}
    resources = tuning.tuning_part({}, {})["resources"]
    assert [item["type"] for item in resources] == ["absent", "sysctl"]
    assert resources[1]["values"] == {}


def test_what_is_named_goes_before_what_is_recommended() -> None:
    usual = {"limits": {"nofile": {"value": 9}, "nproc": {"value": 8}}, "sysctl": {}}
    given = {"recommended": True, "limits": {"nofile": 5}}
    assert "root - nofile 5" in tuning.tuning_part(given, usual)["resources"][0]["content"]
    assert [check["output"] for check in tuning.tuning_limits(given, usual)] == [["5"], ["8"]]
