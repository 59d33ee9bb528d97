"""What N12 reads out of the list that the unit's program writes."""

from pathlib import Path

from bench.rows import n12


def test_of_the_list_only_what_came_after_that_byte_is_read_in_the_order_of_arrival(tmp_path: Path) -> None:
    log = tmp_path / "unit.log"
    log.write_text("1.000000 200\n")
    already = log.stat().st_size
    with log.open("a") as file:
        file.write("3.500000 500\n2.000000 200\n")
    assert n12._arrivals(log, already) == [(2.0, False), (3.5, True)]


def test_the_judge_in_the_peers_place_sees_whole_seconds_or_the_only_one_there_is() -> None:
    failed = [(0.1, True), (0.9, False), (1.5, True), (2.2, True)]
    assert n12._by_second(failed) == [(2, 1), (1, 1)]
    assert n12._by_second(failed[:2]) == [(2, 1)]
