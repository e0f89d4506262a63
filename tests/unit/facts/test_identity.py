"""Who a node is, from this machine and from what others print."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.docker import DockerEngine
from gb10.facts.file import SecretFile, TextFile
from gb10.facts.identity import NodeIdentity
from gb10.facts.network import Listener, TcpListeners
from tests.unit.facts.reading import printed, process, run, section, words


def test_this_machine_is_read() -> None:
    found = NodeIdentity().process(run(NodeIdentity().command()))
    assert found.architecture in ("amd64", "arm64")
    assert found.clock > 1_700_000_000
    assert found.hostname


def test_bridges_and_container_links_are_not_the_machines_own() -> None:
    links = (
        '[{"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00"},'
        ' {"ifname": "enP7s7", "link_type": "ether", "address": "4c:bb:47:00:00:01"},'
        ' {"ifname": "docker0", "link_type": "ether", "address": "02:42:00:00:00:01"},'
        ' {"ifname": "vlan5", "link_type": "ether", "address": "02:42:00:00:00:02", "linkinfo": {"info_kind": "vlan"}}]'
    )
    sections = {
        **section("hostname", "spark-1f2e"),
        **section("machine-id", "", errno.ENOENT),
        **section("boot-id", "82ecd468-4647-41f0-b9d8-55ef1a26042c"),
        **section("links", links),
        **section("machine", "riscv64"),
        **section("os", 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.4 LTS"'),
        **section("clock", "1795455786.250000000"),
    }
    found = NodeIdentity().process(printed(sections))
    assert found.macs == {"enP7s7": "4c:bb:47:00:00:01"}
    assert (found.machine_id, found.architecture, found.os_version) == (None, "riscv64", "24.04")


def test_a_port_and_the_process_behind_it_are_told_apart_by_field() -> None:
    text = (
        'LISTEN 0 4096 *:6443 *:* users:(("k3s-server",pid=812,fd=14))\n'
        "LISTEN 0 128 127.0.0.1:2024 0.0.0.0:*\n"
        'LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=1,fd=4))'
    )
    cgroups = "/proc/812/cgroup:0::/system.slice/k3s.service\n/proc/1/cgroup:0::/init.scope"
    assert TcpListeners().process(printed(section("listeners", f"{text}\n{cgroups}"))) == {
        6443: Listener("k3s-server", "k3s.service"),
        2024: Listener(None, None),
        22: Listener("sshd", "init.scope"),
    }


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/k3s.service", "k3s.service"),
        ("/system.slice/k3s.service/init", "k3s.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/user.slice/user-1000.slice/session-4.scope", "session-4.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/k3s.service", "user@1000.service"),
        ("/kubepods.slice/k3s.service.slice/cri-containerd-1.scope", "cri-containerd-1.scope"),
        ("/", None),
    ],
)
def test_a_listener_belongs_to_the_unit_that_systemd_itself_started(cgroup: str, unit: str | None) -> None:
    text = f'LISTEN 0 4096 *:6443 *:* users:(("python3",pid=812,fd=14))\n/proc/812/cgroup:0::{cgroup}'
    found = TcpListeners().process(printed(section("listeners", text)))
    assert found == {6443: Listener("python3", unit)}


def test_an_engine_that_does_not_answer_is_none() -> None:
    assert DockerEngine().process(printed(section("info", "", 1))) is None
    assert (
        DockerEngine().process(printed(section("info", '{"ServerVersion": "", "ServerErrors": ["no socket"]}'))) is None
    )


def test_the_default_runtime_of_an_engine_is_told() -> None:
    info = '{"ServerVersion": "29.5.2", "DefaultRuntime": "nvidia", "Runtimes": {"runc": {}, "nvidia": {}}}'
    found = DockerEngine().process(printed(section("info", info)))
    assert found is not None
    assert (found.version, found.default_runtime, found.runtimes) == ("29.5.2", "nvidia", ("nvidia", "runc"))


def test_a_text_file_keeps_its_last_newline_or_the_lack_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    for text in ("a\nb\n", "a\nb", "", "\n\n"):
        path = folder / "it's a file"
        path.write_text(text)
        state = TextFile().process(run(TextFile().command(path=str(path))))
        assert state is not None
        assert (state.content, state.mode) == (text, f"{path.stat().st_mode & 0o777:o}")


def test_a_missing_secret_prints_nothing_and_a_present_one_only_its_digest(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("secrets") / "token"
    command = SecretFile().command(path=str(path))
    assert SecretFile().process(run(command)) is None
    path.write_text("canary\n")
    path.chmod(0o600)
    found = run(command)
    assert "canary" not in "".join(found)
    state = SecretFile().process(found)
    assert state is not None
    assert state.mode == "600"


@pytest.mark.parametrize("fact", [TextFile(), SecretFile()])
def test_a_file_that_cannot_be_read_is_not_absent(fact: TextFile | SecretFile, tmp_path: Path) -> None:
    with pytest.raises(FactProcessError):
        fact.process(run(fact.command(path=str(tmp_path))))


@given(st.data())
def test_garbage_is_a_fact_error_of_that_host(data: st.DataObject) -> None:
    for fact in (NodeIdentity(), TcpListeners(), DockerEngine(), TextFile(), SecretFile()):
        names = [*fact.command(**({"path": "/x"} if isinstance(fact, TextFile | SecretFile) else {})).job["commands"]]
        process(fact, printed({name: (data.draw(st.lists(words, max_size=6)), 0) for name in names}))
