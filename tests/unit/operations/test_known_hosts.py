"""known_hosts follows a node that gets its old host keys back, and nothing else in it moves."""

from __future__ import annotations

from pathlib import Path

from paramiko.hostkeys import HostKeys

from gb10.operations.kit.known_hosts import put_known_hosts, with_keys

OLD = {"ssh-ed25519": "OLDED", "ssh-rsa": "OLDRSA"}
NEW = {"ssh-ed25519": "NEWED", "ssh-rsa": "NEWRSA"}
OTHER = "spark-1,192.168.1.11 ssh-ed25519 OTHER"


def changed(*lines: str, name: str = "192.168.1.12") -> list[str]:
    return with_keys(lines, name, now=OLD, before=NEW)


def test_lines_of_the_node_get_its_old_keys_and_others_stay() -> None:
    assert changed(OTHER, "spark-2,192.168.1.12 ssh-ed25519 NEWED added by hand", "# note", "") == [
        OTHER,
        "spark-2,192.168.1.12 ssh-ed25519 OLDED added by hand",
        "# note",
        "",
    ]


def test_another_name_of_the_same_node_is_found_by_the_key_that_it_gave_up() -> None:
    assert changed("spark-2-rail-a ssh-rsa NEWRSA") == ["spark-2-rail-a ssh-rsa OLDRSA"]


def test_a_hashed_name_is_understood() -> None:
    name = HostKeys.hash_host("192.168.1.12")
    assert changed(f"{name} ssh-ed25519 STRANGE") == [f"{name} ssh-ed25519 OLDED"]


def test_a_key_of_a_type_that_the_node_has_no_more_goes() -> None:
    assert changed("192.168.1.12 ecdsa-sha2-nistp256 NEWEC") == []


def test_lines_that_were_right_all_the_time_stay_as_they_are() -> None:
    lines = ("192.168.1.12 ssh-ed25519 OLDED", "@cert-authority *.lan ssh-rsa CA", OTHER)
    assert changed(*lines) == list(lines)


def test_the_file_is_replaced_at_once_with_its_mode_and_only_if_something_changes(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("192.168.1.12 ssh-ed25519 NEWED\n")
    file.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert put_known_hosts(link, "192.168.1.12", OLD, NEW)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("192.168.1.12 ssh-ed25519 OLDED\n", 0o640)
    assert link.is_symlink()
    assert not put_known_hosts(link, "192.168.1.12", OLD, NEW)
    assert not put_known_hosts(tmp_path / "absent", "192.168.1.12", OLD, NEW)
