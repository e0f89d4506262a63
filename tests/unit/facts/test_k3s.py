"""K3s facts, from what real tools print."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from pyinfra.api.exceptions import FactProcessError

from gb10.facts.k3s import ForeignK3s, K3sInstall, K3sLeftovers, K3sToken, Kubeconfig, Secret
from gb10.facts.reading.k3s import ForeignSettings, K3sInstallation
from gb10.facts.reading.masking import masked
from gb10.group_data.settings import SECRET_FLAGS
from tests.unit.facts.reading import Printed, printed, process, run, section, spoiled

# `systemctl show` of systemd 255 for a running server; the second unit does not exist.
UNITS = """Id=k3s.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
MainPID=4711
ExecMainStartTimestamp=Mon 2026-11-23 17:43:06.250000 UTC

Id=k3s-agent.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
MainPID=0
ExecMainStartTimestamp=
"""
STARTED = 1795455786.25
DIGEST = "a" * 64


def output(**changes: tuple[str, int]) -> list[str]:
    texts: dict[str, tuple[str, int]] = {
        "version": ("k3s version v1.36.4+k3s1 (0a1b2c3d)\ngo version go1.25.1", 0),
        "binary": (f"{DIGEST}  /usr/local/bin/k3s", 0),
        "machine": ("aarch64", 0),
        "config": (f"{'b' * 64}  /etc/rancher/k3s/config.yaml", 0),
        "units": (UNITS, 0),
        "exec": ("ExecStart=/usr/local/bin/k3s server", 0),
        "foreign": ("", 0),
        "scripts": ("/usr/local/bin/k3s-killall.sh\n/usr/local/bin/k3s-uninstall.sh", 0),
        "changed": (f"{STARTED - 9:.6f} /usr/local/bin/k3s", 0),
        "state": ("/var/lib/rancher/k3s", 0),
        "password": ("", 0),
        "drained": ("", 1),
        **changes,
    }
    return printed({name: (text.splitlines(), status) for name, (text, status) in texts.items()})


NOTHING = {
    "version": ("", 127),
    "binary": ("", 1),
    "config": ("", 1),
    "units": (UNITS.replace("LoadState=loaded", "LoadState=not-found"), 0),
    "exec": ("", 2),
    "scripts": ("", 0),
    "changed": ("", 0),
    "state": ("", 0),
    "password": ("", 1),
}


def install(**changes: tuple[str, int]) -> K3sInstallation:
    found = K3sInstall().process(output(**changes))
    assert found is not None
    return found


def test_a_running_server_is_read() -> None:
    assert install() == K3sInstallation(
        role="server",
        version="v1.36.4+k3s1",
        binary_sha256=DIGEST,
        architecture="arm64",
        unit_state="active",
        unit_enabled=True,
        main_pid=4711,
        config_sha256="b" * 64,
        uninstall_scripts=("/usr/local/bin/k3s-killall.sh", "/usr/local/bin/k3s-uninstall.sh"),
        stale=False,
        foreign=False,
        exec_start="/usr/local/bin/k3s server",
        node_password=True,
        drained=False,
    )


def test_what_somebody_else_set_up_is_read_but_for_its_secrets_and_for_what_stays(tmp_path: Path) -> None:
    text = "token: canary\ncluster-cidr: 10.52.0.0/16\ndisable:\n  - traefik\ndebug: true\n"
    found = {
        **section("config", shown(text, tmp_path)),
        **section("variables", "K3S_TOKEN\nK3S_DATASTORE_ENDPOINT\nK3S_NODE_NAME"),
        **section("defaults", "K3S_NODE_NAME"),
    }
    assert ForeignK3s().process(printed(found)) == ForeignSettings(
        config={"token": "*MASKED*", "cluster-cidr": "10.52.0.0/16", "disable": ["traefik"], "debug": True},
        variables=("K3S_TOKEN", "K3S_DATASTORE_ENDPOINT"),
    )
    nothing = {**section("config"), **section("variables"), **section("defaults")}
    assert ForeignK3s().process(printed(nothing)) == ForeignSettings(config={}, variables=())


def test_a_config_yaml_that_is_none_fails_its_host_alone() -> None:
    for text in ("- a", "a: [", "*MASKED*"):
        with pytest.raises(FactProcessError):
            ForeignK3s().process(printed({**section("config", text), **section("variables"), **section("defaults")}))


def test_a_node_without_anything_of_k3s_is_none() -> None:
    assert K3sInstall().process(output(**NOTHING)) is None


def test_a_lone_binary_is_half_an_installation() -> None:
    found = K3sInstall().process(output(**{**NOTHING, "binary": (f"{DIGEST}  /usr/local/bin/k3s", 0)}))
    assert found is not None
    assert (found.role, found.version, found.unit_state) == (None, None, None)


def test_a_file_changed_after_the_start_makes_the_process_stale() -> None:
    assert install(changed=(f"{STARTED + 0.5:.6f} /etc/rancher/k3s/config.yaml", 0)).stale


def test_files_of_the_other_role_do_not_make_it_stale() -> None:
    assert not install(changed=(f"{STARTED + 5:.6f} /etc/systemd/system/k3s-agent.service.env", 0)).stale


def test_a_command_line_over_several_lines_is_one() -> None:
    text = "ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--docker' \\\n\t'--disable=traefik' \\\n"
    assert install(exec=(text, 0)).exec_start == "/usr/local/bin/k3s server '--docker' '--disable=traefik'"


def shown(text: str, folder: Path) -> str:
    """What of a file is printed at all."""
    (folder / "file").write_text(text)
    command = masked(str(folder / "file"))
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("flag", ["--token=canary", "--token canary", "'--token' 'canary'", "--agent-token=canary"])
def test_a_token_on_the_command_line_is_masked(flag: str, tmp_path: Path) -> None:
    found = install(exec=(shown(f"ExecStart=/usr/local/bin/k3s server {flag} --docker\n", tmp_path), 0)).exec_start
    assert found is not None
    assert "canary" not in found
    assert found.endswith(" --docker")


@pytest.mark.parametrize(
    "secret",
    [
        "ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--token' \\\n\t'canary' \\\n",
        "ExecStart=/usr/local/bin/k3s server '--token=canary and canary'\n",
        "ExecStart=/usr/local/bin/k3s server -t canary\n",
        "ExecStart=/usr/local/bin/k3s server --datastore-endpoint 'postgres://canary:canary@db/k3s'\n",
        "Environment=K3S_TOKEN=canary\n",
        "Environment='HTTPS_PROXY=http://anna:canary@proxy:3128'\n",
        "token: canary\n",
        '"token": "canary"\n',
        "agent-token: >\n  canary\n  canary\n",
        "{docker: true, datastore-endpoint: canary}\n",
        "t: canary\n",
        "etcd-s3-proxy: http://anna:can/ary@canary@proxy:3128\n",
    ],
)
def test_a_secret_that_somebody_elses_installation_holds_is_never_printed(secret: str, tmp_path: Path) -> None:
    text = f"token-file: /etc/rancher/k3s/token\n{secret}tls-san: [spark.lan]\n"
    masked_text = shown(text, tmp_path)
    assert "canary" not in masked_text
    assert masked_text.startswith("token-file: /etc/rancher/k3s/token\n")
    assert masked_text.endswith("tls-san: [spark.lan]\n")


def test_every_secret_flag_of_k3s_is_masked_in_every_form(tmp_path: Path) -> None:
    forms = [
        *(
            "ExecStart=/k3s server --{0}=canary\n",
            "ExecStart=/k3s server --{0} canary\n",
            "ExecStart=/k3s '--{0}' 'canary'\n",
        ),
        *(
            "{0}: canary\n",
            "{0}+: canary\n",
            "'{0}': canary\n",
            '"{0}+": "canary"\n',
            "{0}:\n  - canary\n",
            "{0}: |\n  canary\n",
        ),
        *("{1}=canary\n", "Environment={1}=canary\n", "Environment='{1}=canary'\n", "export {1}=canary\n"),
    ]
    texts = [form.format(flag, variable) for flag, variable in SECRET_FLAGS.items() for form in forms]
    folder = tmp_path
    for number, text in enumerate(texts):
        (folder / str(number)).write_text(f"debug: true\n{text}selinux: true\n")
    files = [str(folder / str(number)) for number in range(len(texts))]
    command = masked(*files).replace("sed -z", "sed -s -z")
    output = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert "canary" not in output
    assert output.count("debug: true\n") == output.count("selinux: true\n") == len(texts)


def test_a_file_without_secrets_is_shown_as_it_is(tmp_path: Path) -> None:
    text = "# a token is in the token-file\ntoken-file: /x\nserver: https://10.0.0.1:6443\nkubelet-arg: [-v=2]"
    assert shown(text, tmp_path) == text


@pytest.mark.parametrize("text", ["k3s version dev", "bash: k3s: cannot execute", ""])
def test_a_binary_that_tells_no_version_has_none(text: str) -> None:
    assert install(version=(text, 0)).version is None


@given(spoiled(output()))
def test_mutated_output_either_reads_or_fails_this_host_alone(lines: list[str]) -> None:
    process(K3sInstall(), lines)


def test_the_command_runs_on_a_machine_without_k3s() -> None:
    assert K3sLeftovers().process(run(K3sLeftovers().command())).is_empty


@pytest.mark.parametrize(
    ("containers", "status", "absence"),
    [("", 0, True), ("1f2e k8s_coredns", 0, False), ("", 1, False), ("", 124, False)],
)
def test_a_docker_that_does_not_answer_is_no_proof_that_no_container_is_left(
    containers: str, status: int, absence: bool
) -> None:
    nothing: dict[str, Printed] = {name: ([], 0) for name in ("paths", "mounts", "processes", "links")}
    left = K3sLeftovers().process(printed({**nothing, **section("containers", containers, status)}))
    assert left.is_absence is absence
    assert left.containers == (None if status else tuple(containers.splitlines()))


@pytest.mark.parametrize("fact", [K3sToken, Kubeconfig])
def test_an_absent_secret_is_none_and_one_that_cannot_be_read_a_fact_error(fact: type[K3sToken | Kubeconfig]) -> None:
    name = "token" if fact is K3sToken else "kubeconfig"
    assert fact().process(printed(section(name, "", errno.ENOENT))) is None
    assert fact().process(printed(section(name))) is None
    with pytest.raises(FactProcessError):
        fact().process(printed(section(name, "", errno.EACCES)))
    found = fact().process(printed(section(name, "canary\nmore\n")))
    assert found is not None
    assert found.unmask() == ("canary\nmore" if fact is K3sToken else "canary\nmore\n")


def test_a_secret_prints_as_its_mask() -> None:
    secret = Secret("canary")
    assert "canary" not in f"{secret} {secret!r} {secret.to_json()}"
    assert secret.unmask() == "canary"
