"""The points of the fault campaign, and their distribution to rebuilds."""

from __future__ import annotations

from tests.faults.points import Point, all_points, batches, chosen

STEPS = ("preflight", "sync-models", "drain", "backup", "gate", "wipe", "settle", "provision", "restore", "models")


def test_every_step_is_killed_before_inside_and_after() -> None:
    points = all_points(STEPS, {}, seed=1)
    for step in STEPS:
        assert {point.where for point in points if point.step == step and point.fault == "kill"} == {
            "before",
            "inside",
            "after",
        }


def test_a_kill_inside_a_step_comes_while_it_runs() -> None:
    for point in all_points(STEPS, {"backup": 8.0}, seed=3):
        if (point.step, point.where) == ("backup", "inside"):
            assert point.delay is not None
            assert 1.0 < point.delay < 7.0


def test_equal_seeds_give_equal_points_and_choices() -> None:
    first, second = (all_points(STEPS, {}, seed=5) for _ in range(2))
    assert first == second
    assert chosen(first, "12", 5) == chosen(second, "12", 5)
    assert len(chosen(first, "12", 5)) == 12


def test_a_subset_by_name_has_only_these_points() -> None:
    names = {point.name for point in chosen(all_points(STEPS, {}, seed=1), "backup.kill", 1)}
    assert names == {"backup.kill-before", "backup.kill-inside", "backup.kill-after"}


def test_each_point_is_in_one_rebuild_and_each_step_once_in_each() -> None:
    points = all_points(STEPS, {}, seed=1)
    together = list(batches(points, most=4))
    assert sorted(point.name for batch in together for point in batch) == sorted(point.name for point in points)
    for batch in together:
        assert len(batch) <= 4
        assert len({point.step for point in batch}) == len(batch)


def test_faults_of_different_kinds_get_different_rebuilds() -> None:
    for batch in batches(all_points(STEPS, {}, seed=1), most=9):
        assert len({(point.fault, point.where) for point in batch}) == 1


def test_a_subset_of_several_texts_has_the_points_of_each() -> None:
    found = chosen(all_points(STEPS, {}, seed=1), "lost,drain.kill", 1)
    assert {(point.fault, point.step) for point in found} > {("kill", "drain"), ("lost", "settle")}
    assert all(point.fault == "lost" or point.step == "drain" for point in found)


def test_a_point_names_its_hook() -> None:
    assert Point("drain", "kill", "after").to_hook("spark-2")["hook"] == "after"
    assert Point("drain", "kill", "inside", 1.0).to_hook("spark-2")["hook"] == "before"
    assert Point("drain", "docker", "target").to_hook("spark-2")["hook"] == "before"
