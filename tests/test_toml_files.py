"""Settings: TOML files are written here, and read by tomllib itself where an oracle is needed."""

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode.errors import InputError
from nas_relucode.study.search_space import SearchSpace, load_search_space
from nas_relucode.study.settings import DataSettings, StudySettings, load_settings
from nas_relucode.toml_files import builtin_files, parse, read_toml, table_fields

CHECKOUT = Path(__file__).parents[1]
STUDY = '[data]\nsource = "digits"\n[search]\nspace = "digits"\n'


@dataclass(frozen=True)
class Inner:
    depth: int
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner(1)
    flag: bool = False
    ratio: float | None = None
    sizes: tuple[int, ...] = ()
    mixed: tuple[int | str, ...] = ()
    table: dict[str, str] = field(default_factory=dict)
    either: tuple[float, ...] | Inner = ()


def study_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_table_becomes_the_dataclass_it_describes():
    text = """
        name = "x"
        inner = {depth = 3}
        flag = true
        ratio = 2
        sizes = [1, 2]
        mixed = [4, "frog"]
        table = {accuracy = "maximize"}
        either = {depth = 1, rate = 1}
    """
    expected = Outer("x", Inner(3, 0.5), True, 2.0, (1, 2), (4, "frog"), {"accuracy": "maximize"}, Inner(1, 1.0))
    assert parse(Outer, tomllib.loads(text), "here") == expected
    assert parse(Outer, {"name": "x"}, "here") == Outer("x")


def test_a_whole_number_is_a_number_but_true_is_not():
    inner = parse(Inner, {"depth": 2, "rate": 1}, "here")
    assert isinstance(inner.rate, float)
    assert isinstance(inner.depth, int)
    assert all(isinstance(rate, float) for rate in parse(Outer, {"name": "x", "either": [1, 2]}, "here").either)
    for key in ("depth", "rate"):
        with pytest.raises(InputError, match=f"here: {key} is True, but must be a (whole )?number"):
            parse(Inner, {"depth": 1, key: True}, "here")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": 3}, "here: name is 3, but must be a string"),
        ({"name": "x", "ratio": 10**299}, "here: ratio is a number of 300 digits.*64 bits"),
        ({"name": "x", "flag": 1}, "here: flag is 1, but must be true or false"),
        ({"name": "x", "ratio": "1"}, "here: ratio is '1', but must be a number"),
        ({"name": "x", "sizes": 1}, "here: sizes is 1, but must be a list, each item a whole number"),
        ({"name": "x", "sizes": [1, 2.0]}, r"here: sizes.* is .*2\.0.*, but must be .*a whole number"),
        ({"name": "x", "mixed": [True]}, "here: mixed.* is .*True.*, but must be .*a whole number or a string"),
        ({"name": "x", "table": {"a": 1}}, "here: table is {'a': 1}, but must be a table of strings"),
        ({"name": "x", "either": "1"}, "here: either is '1', but must be a list, each item a number or a table"),
        ({"name": "x", "inner": 1}, "here: inner is 1, but must be a table"),
        ({"name": "x", "inner": {"depth": "1"}}, "here: inner: depth is '1', but must be a whole number"),
        ({"name": "x", "inner": {"depth": 1, "dept": 1}}, "here: inner: unknown key 'dept'. Known: depth, rate"),
        ({"name": "x", "inner": {}}, "here: inner: the key 'depth' is missing. Keys: depth, rate"),
        ({"name": "x", "either": {"rate": 1}}, "here: either: the key 'depth' is missing"),
        ({}, "here: the key 'name' is missing. Keys: name, inner"),
        ({"nam": "x"}, "here: unknown key 'nam'. Known: name, inner"),
        ([], r"here is \[\], but must be a table"),
    ],
)
def test_a_table_of_the_wrong_keys_or_types_is_explained(table, message):
    with pytest.raises(InputError, match=rf"^{message}"):
        parse(Outer, table, "here")


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(
        [*[(None, f.name) for f in table_fields(StudySettings)], ("training", "epochs"), ("training", "momentum")]
    )
    | st.tuples(st.sampled_from(["data", "network", "search", "codes"]), st.sampled_from(["seeds", "seed", "width"])),
    VALUES,
)
def test_any_value_in_a_study_is_read_or_refused_with_the_name_of_its_key(place, value):
    section, key = place
    table = tomllib.loads(STUDY)
    (table if section is None else table.setdefault(section, {}))[key] = value
    try:
        parse(StudySettings, table, "study x")
    except InputError as error:
        message = str(error)
    else:
        return
    assert message.startswith("study x: ")
    assert (section or key).rstrip("s") in message


def test_an_error_names_the_file_the_section_and_the_key(tmp_path):
    path = study_file(tmp_path, STUDY + "[training]\nepoch = 3\n")
    with pytest.raises(InputError, match=rf"{path}: training: unknown key 'epoch'. Known: epochs, batch_size"):
        load_settings(path)
    path = study_file(tmp_path, STUDY + "[training]\nepochs = -3\n")
    with pytest.raises(InputError, match=rf"{path}: training: epochs -3 "):
        load_settings(path)
    path = study_file(tmp_path, "[data]\nsource = 'digits'\n")
    with pytest.raises(InputError, match=rf"{path}: the key 'search' is missing"):
        load_settings(path)
    path = study_file(tmp_path, STUDY + "[objectives]\naccuracy = 'up'\n")
    with pytest.raises(InputError, match=rf"{path}: unknown direction of accuracy 'up'. Known: maximize, minimize"):
        load_settings(path)


@pytest.mark.skipif(os.name != "posix", reason="devices are files on POSIX")
def test_a_pipe_a_device_and_a_huge_file_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "zero", "huge"):
        with pytest.raises(InputError, match=f"{name}.toml"):
            load_settings(str(tmp_path / f"{name}.toml"))


def test_malformed_toml_is_answered_with_file_and_line(tmp_path):
    path = study_file(tmp_path, "[data]\nsource = digits\n")
    with pytest.raises(InputError, match=rf"{path} is not valid TOML: .*line 2"):
        load_settings(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = str(tmp_path / "none.toml")
    with pytest.raises(InputError, match=rf"{missing} cannot be read"):
        read_toml("studies", missing)
    path = tmp_path / "latin.toml"
    path.write_bytes('description = "Größe"'.encode("latin-1"))
    with pytest.raises(InputError, match=rf"{path} cannot be read .*UTF-8"):
        read_toml("studies", str(path))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"{folder} cannot be read"):
        read_toml("studies", str(folder))


@pytest.mark.parametrize(
    "text",
    [
        STUDY + "trials = " + "9" * 5000,
        STUDY + "x = " + "[" * 600 + "]" * 600,
        STUDY.replace("[search]", f"validation = {'9' * 400}\n[search]"),
        STUDY.replace('space = "digits"', "space.heads = {depths = [4611686018427387904], widths = [2, 3]}"),
        STUDY.replace('space = "digits"', "space.heads = {depths = [1000000000], widths = [8]}"),
    ],
    ids=["digits", "nested", "integer for a fraction", "depths", "one width"],
)
def test_numbers_and_depths_beyond_all_bounds_are_refused_at_once(tmp_path, text):
    with pytest.raises(InputError, match=r"mine\.toml"):
        load_settings(study_file(tmp_path, text + "\n"))


@pytest.mark.parametrize(
    ("folder", "remedy"), [("studies", "nas-relucode list studies"), ("search_spaces", "digits, mnist_small, table1")]
)
def test_an_unknown_name_is_answered_with_the_known_ones_or_how_to_list_them_and_the_closest(folder, remedy):
    with pytest.raises(InputError, match=rf"'digit'.*{remedy}.*'digits'.*\.toml"):
        read_toml(folder, "digit")


@pytest.mark.parametrize("folder", ["studies", "search_spaces"])
def test_the_built_in_files_are_those_of_the_checkout(folder):
    assert builtin_files(folder) == {path.stem: path.read_text("utf-8") for path in (CHECKOUT / folder).glob("*.toml")}


@pytest.mark.parametrize("path", sorted((CHECKOUT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_built_in_study_can_be_read(path):
    study = load_settings(path.stem)
    assert study == load_settings(str(path))
    table = tomllib.loads(path.read_text("utf-8"))
    assert study.data.source == table["data"]["source"]
    assert list(study.objectives) == list(table["objectives"])
    assert isinstance(study.search_space, SearchSpace)


@pytest.mark.parametrize("path", sorted((CHECKOUT / "search_spaces").glob("*.toml")), ids=lambda path: path.stem)
def test_every_built_in_search_space_can_be_read(path):
    assert load_search_space(path.stem) == load_search_space(str(path))


def test_only_toml_lies_in_the_data_folders():
    for folder in ("studies", "search_spaces"):
        assert {path.suffix for path in (CHECKOUT / folder).iterdir()} == {".toml"}


def test_missing_keys_have_the_documented_defaults(tmp_path):
    study = load_settings(study_file(tmp_path, STUDY))
    assert study.data == DataSettings(source="digits", validation=0.2)
    assert study.search.seeds == (0,)
    assert study.training.batch_size == 256
    assert study.objectives == {"accuracy": "maximize", "cell_count": "minimize"}
