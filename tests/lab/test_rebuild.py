"""The rolling rebuild: both nodes are wiped one after the other while a model answers, with and without K3s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gb10.lab.probe import gaps, probed
from tests.lab.attended import HEAD, SETTINGS, WORKER, AttendedRebuild, locked
from tests.lab.conftest import LabUnderTest
from tests.lab.product import Product

# The stand-in for vLLM loads for 2.5 s, and on an idle machine a switch takes less than 3 s more. But other tests run
# in parallel.
MOST_GAP_SECONDS = 20
MOST_OWN_SECONDS = 240  # beside three other labs; `make bench` holds 120 on a quiet machine


@pytest.fixture
def host_of(over_ssh: Any) -> Any:
    """Use SSH, which proves that the old host keys are valid after the rebuild."""
    return over_ssh


def test_both_nodes_are_rebuilt_while_a_model_answers(
    lab: LabUnderTest, served: Callable[..., Product], host_of: Callable[[str], Any]
) -> None:
    product = served(k3s=True)
    known_hosts = Path(lab.state.known_hosts).read_text()
    machine_ids = {name: host_of(name).file("/etc/machine-id").content_string for name in (HEAD, WORKER)}
    secret = host_of(HEAD).check_output("sudo cat /var/lib/rancher/k3s/server/token")
    assert product.gb10("rebuild", "plan", "--all").status == 0
    attended = AttendedRebuild(lab, product)
    with probed([lab.address(HEAD), lab.address(WORKER)]) as seen:
        done = attended("run", "--all")
    assert done.status == 0, done.output

    assert attended.person.wiped == [WORKER, HEAD]  # each only once, the head last
    found = gaps(seen)
    print("gaps:", [f"{gap:.1f}" for gap in found], {name: attended.own_seconds(name) for name in (HEAD, WORKER)})
    switches = [
        (one["node"], one["step"]) for one in attended.records("step-done") if one["step"] in ("solo", "cluster")
    ]
    assert switches == [(name, step) for name in (WORKER, HEAD) for step in ("solo", "cluster")]
    assert len(found) == len(switches), found  # exactly one gap for each switch
    assert len(seen) > (seen[-1][0] - seen[0][0]) / 2  # the probe asked at least every two seconds
    assert seen[-1][1]  # the model answers at the end
    assert max(found, default=0) <= MOST_GAP_SECONDS
    for name in (HEAD, WORKER):
        assert attended.own_seconds(name) <= MOST_OWN_SECONDS
        host = host_of(name)
        assert host.file("/etc/machine-id").content_string != machine_ids[name]
        assert host.check_output("hostname") == name
        assert "gb10-lab/vllm:1" in host.check_output("sudo docker image ls --format '{{.Repository}}:{{.Tag}}'")
        assert host.run("find /data/huggingface/hub -xtype l").stdout == ""
        assert not locked(host)
    # The host keys are the old ones, in any order.
    assert sorted(Path(lab.state.known_hosts).read_text().splitlines()) == sorted(known_hosts.splitlines())
    assert host_of(HEAD).check_output("sudo cat /var/lib/rancher/k3s/server/token") == secret  # the same cluster
    status = product.gb10("status", "--json")
    assert status.status == 0, status.output
    assert status.json["serving"]["mode"] == "cluster"
    assert not any(node["kubernetes"]["cordoned"] for node in status.json["nodes"])
    history = product.gb10("rebuild", "history", "--json").json["runs"][-1]
    assert history["ended"] == "finished"
    for text in (secret.strip(), secret.strip().rpartition(":")[2]):
        assert text not in Path(history["journal"]).read_text()


def test_a_rebuild_works_without_k3s(
    lab: LabUnderTest, served: Callable[..., Product], host_of: Callable[[str], Any]
) -> None:
    product = served(k3s=False, rebuild_validate_without=[*SETTINGS["rebuild_validate_without"], "gpu-container"])
    head = host_of(HEAD)
    for name in (HEAD, WORKER):  # stop serving
        host_of(name).check_output("sudo docker rm -f $(sudo docker ps -aq)")
    head.check_output("sudo docker image rm -f gb10-lab/vllm:1 && sudo rm -rf /data/huggingface/hub")

    gate = {
        demand["name"]: demand for demand in product.gb10("rebuild", "plan", WORKER, "--json").json["plan"][0]["gate"]
    }

    missing = {name for name, demand in gate.items() if not demand["holds"]}
    assert {"models", "images", "saved-images", "backup", "lock"} <= missing
    assert all(gate[name]["remedy"] for name in missing)
    refused = product.gb10("rebuild", "run", WORKER, "--override", "backup")
    assert refused.status == 2  # an override needs a reason
    attended = AttendedRebuild(lab, product)
    done = attended("run", WORKER, "--override", "backup", "--reason", "nothing on it is worth keeping")
    assert done.status == 0, done.output
    assert attended.person.wiped == [WORKER]
    steps = {record["step"] for record in attended.records("step-done")}
    assert {"sync-models", "sync-images", "provision", "images", "models"} <= steps
    assert not steps & {"drain", "rejoin", "solo", "backup", "restore", "cluster"}
    assert any(demand["override"] for record in attended.records("gate") for demand in record["demands"])
    assert not host_of(WORKER).file("/usr/local/bin/k3s").exists


def test_a_rebuilt_head_can_start_a_new_cluster(
    lab: LabUnderTest, whole: Product, host_of: Callable[[str], Any]
) -> None:
    whole.environment["GB10_BACKUPS"] = str(whole.folder / "backups")
    product = whole.with_data(**SETTINGS)
    lab.wipe_all()
    for command in (["provision", HEAD, WORKER], ["bootstrap"]):
        done = product.gb10(*command)
        assert done.status == 0, done.output
    lab.lab.download(HEAD)
    models = "cd /data/huggingface/hub && find -L . -type f -exec sha256sum {} + | sort"
    before = host_of(HEAD).check_output(models)
    secret = host_of(HEAD).check_output("sudo cat /var/lib/rancher/k3s/server/token")
    known_hosts = sorted(Path(lab.state.known_hosts).read_text().splitlines())

    attended = AttendedRebuild(lab, product, keep_data=True)
    done = attended("run", HEAD, "--rebootstrap")

    assert done.status == 0, done.output
    assert attended.person.wiped == [HEAD]
    head = host_of(HEAD)
    assert head.check_output("sudo cat /var/lib/rancher/k3s/server/token") != secret  # another cluster
    listed = head.check_output("sudo k3s kubectl get nodes --no-headers").splitlines()
    assert {tuple(line.split()[:2]) for line in listed} == {(HEAD, "Ready"), (WORKER, "Ready")}
    assert before
    assert head.check_output(models) == before
    done_steps, held = ([one["step"] for one in attended.records(event)] for event in ("step-done", "step-held"))
    assert ("models" in held, "restore" in done_steps, "rejoin" in done_steps) == (True, True, True)
    assert not {"models", "solo", "cluster"} & set(done_steps)  # no model was served
    assert sorted(Path(lab.state.known_hosts).read_text().splitlines()) == known_hosts
