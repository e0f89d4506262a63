"""known_hosts follows a host that changes its keys, and other lines stay, as ssh-keygen confirms."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gb10.operations.kit.known_hosts import HostKey, KnownHosts, host_name, keys_of, public_keys

OLD = {"ssh-ed25519": "OLDED", "ssh-rsa": "OLDRSA"}
NEW = {"ssh-ed25519": "NEWED", "ssh-rsa": "NEWRSA"}
OTHER = "spark-1,192.168.1.11 ssh-ed25519 OTHER"
NODE = "192.168.1.12"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def followed(file: Path, *lines: str) -> list[str]:
    """Return the lines of a file once the node has its old keys again."""
    file.write_text("".join(f"{line}\n" for line in lines))
    KnownHosts(file).follow(NODE, now=OLD, before=NEW)
    return file.read_text().splitlines()


def made(folder: Path, name: str, kind: str = "ed25519") -> str:
    """Make a key; return its type and its base64."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / name)], check=True)
    ((kind, blob),) = public_keys([(folder / f"{name}.pub").read_text()]).items()
    return f"{kind} {blob}"


def keygen(file: Path, *words: str) -> str:
    """Return what ssh-keygen prints about a file."""
    command = ["ssh-keygen", *words, "-f", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def found(file: Path, name: str) -> set[str]:
    """Return the keys by which ssh knows a host, without those that are marked."""
    lines = keygen(file, "-F", name).splitlines()
    return {" ".join(line.split()[1:3]) for line in lines if not line.startswith(("#", "@"))}


def test_lines_of_the_node_get_its_old_keys_and_others_stay(file: Path) -> None:
    assert followed(file, OTHER, f"spark-2,{NODE} ssh-ed25519 NEWED added by hand", "# note", "") == [
        OTHER,
        f"spark-2,{NODE} ssh-ed25519 OLDED added by hand",
        "# note",
        "",
    ]


def test_another_name_of_the_node_is_found_by_the_key_it_gave_up(file: Path) -> None:
    assert followed(file, "spark-2-rail-a ssh-rsa NEWRSA") == ["spark-2-rail-a ssh-rsa OLDRSA"]


def test_a_key_of_a_type_that_the_node_lost_is_removed(file: Path) -> None:
    assert followed(file, f"{NODE} ecdsa-sha2-nistp256 NEWEC") == []


def test_right_lines_stay(file: Path) -> None:
    lines = [f"{NODE} ssh-ed25519 OLDED", "@cert-authority *.lan ssh-rsa CA", OTHER]
    assert followed(file, *lines) == lines


def test_an_unknown_line_stays(file: Path) -> None:
    lines = ["|1|short|salt ssh-ed25519 ONE", "|1|= ssh-ed25519 TWO", "half-a-line", "caf\udce9 ssh-rsa X caf\udce9"]
    file.write_text("\n".join([*lines, f"{NODE} ssh-rsa NEWRSA"]), errors="surrogateescape")
    KnownHosts(file).replace(NODE, [f"{NODE} ssh-rsa OLDRSA"])
    assert file.read_text(errors="surrogateescape").splitlines() == [*lines, f"{NODE} ssh-rsa OLDRSA"]


def test_hashed_names_are_known_as_ssh_knows_them(file: Path, tmp_path: Path) -> None:
    old, new, other = (made(tmp_path, name) for name in ("old", "new", "other"))
    names = ["spark-2", f"[{NODE}]:2222", "spark-1", NODE]
    marked = f"@revoked {NODE} {other}"
    file.write_text(
        f"# ours\n{names[0]},{names[1]} {old} by hand\n{names[2]} {other} of another\n{names[3]} {other}\n{marked}\n"
    )
    keygen(file, "-H")
    others = [line for line in file.read_text().splitlines() if other in line]
    assert file.read_text().count("|1|") == 4
    for name in names:
        assert {f"{key.kind} {key.blob}" for key in keys_of(KnownHosts(file).about(name))} == found(file, name)

    kind, blob = new.split()
    KnownHosts(file).follow(host_name(NODE, 2222), {kind: blob}, {})
    assert [found(file, name) for name in names] == [{old}, {new}, {other}, {other}]
    KnownHosts(file).follow(host_name(NODE, 2222), {kind: blob}, {kind: old.split()[1]})
    assert [found(file, name) for name in names] == [{new}, {new}, {other}, {other}]
    assert [line for line in file.read_text().splitlines() if other in line] == others
    assert file.read_text().startswith("# ours\n")


def test_the_lines_replaced_are_those_ssh_keygen_would_remove(file: Path, tmp_path: Path) -> None:
    keys = [made(tmp_path, f"key-{number}") for number in range(3)]
    lines = [f"Spark-2 {keys[0]}", f"spark-1 {keys[1]}", "@cert-authority *.lan " + keys[2], f"other {keys[2]} note"]
    file.write_text("\n".join(lines) + "\n")
    twin = tmp_path / "twin"
    twin.write_text(file.read_text())
    keygen(twin, "-R", "spark-2")
    KnownHosts(file).replace("spark-2", [])
    assert file.read_text() == twin.read_text() == "\n".join(lines[1:]) + "\n"


def test_a_host_is_replaced_with_all_names_of_its_key(file: Path) -> None:
    file.write_text(f"{OTHER}\n{NODE} ssh-rsa NEWRSA\nspark-2-rail-a ssh-rsa NEWRSA\nspark-2-rail-a ssh-dss STAYS\n")
    KnownHosts(file).replace(NODE, [f"{NODE} ssh-ed25519 OLDED"])
    assert file.read_text().splitlines() == [OTHER, "spark-2-rail-a ssh-dss STAYS", f"{NODE} ssh-ed25519 OLDED"]
    assert keys_of(KnownHosts(file).about(NODE)) == {HostKey("ssh-ed25519", "OLDED")}


def test_the_file_is_replaced_at_once_and_only_if_something_changes(file: Path, tmp_path: Path) -> None:
    file.write_text(f"{NODE} ssh-ed25519 NEWED\n")
    file.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert KnownHosts(link).follow(NODE, OLD, NEW)
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{NODE} ssh-ed25519 OLDED\n", 0o640)
    assert link.is_symlink()
    before = file.stat()
    assert not KnownHosts(link).follow(NODE, OLD, NEW)
    assert file.stat() == before
    assert not KnownHosts(tmp_path / "absent").follow(NODE, OLD, NEW)
    assert not (tmp_path / "absent").exists()
