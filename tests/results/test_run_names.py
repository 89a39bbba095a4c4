from __future__ import annotations

from pathlib import Path

from ness_cli.results.run_names import RunNames

LONG = [Path("/home/me/experiments/runs/ness/seed-1"), Path("/home/me/experiments/runs/gpm/seed-1")]


def test_what_all_begin_with_goes_into_the_title_where_space_is_short():
    names = RunNames.of(LONG, 20)
    assert [names.name(path).text for path in LONG] == ["ness/seed-1", "gpm/seed-1"]
    assert names.title("ACC") == "ACC; runs in /home/me/experiments/runs"


def test_names_that_fit_stay_as_they_were_typed():
    names = RunNames.of(LONG, 60)
    assert names.name(LONG[0]).text == str(LONG[0])
    assert names.title("ACC") == "ACC"


def test_a_name_is_broken_between_folders_and_loses_nothing():
    path = Path("runs/digits-of-ten/seed-1")
    name = RunNames.of([path], 14).name(path).text
    assert name == "runs/\ndigits-of-ten/\nseed-1"
    assert name.replace("\n", "") == str(path)


def test_a_folder_that_is_too_long_is_broken_between_its_words():
    names = RunNames.of([Path("digits-of-ten-permutations/seed-1")], 14)
    assert names.name(Path("digits-of-ten-permutations/seed-1")).text.split("\n") == [
        *("digits-of-ten-", "permutations/", "seed-1")
    ]


def test_names_with_nothing_in_common_stay_whole():
    paths = [Path("here/a"), Path("/there/b")]
    assert RunNames.of(paths, 3).common == ""
    other = [Path("a/very/long/name"), Path("b/very/long/name")]
    assert RunNames.of(other, 3).common == ""
