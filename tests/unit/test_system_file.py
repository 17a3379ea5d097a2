"""A system file is read strictly: what is wrong is named, with its place."""

import json
from pathlib import Path

import diskcache
import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from ebbtide.adapters.system.file import (
    GitopsThing,
    SystemFile,
    find_system,
    read_system_file,
    schema,
)
from ebbtide.bootstrap import cache_of, layers_of, world_of
from ebbtide.core.errors import BadConfiguration, Unknown
from ebbtide.core.saga import BUILT_IN
from ebbtide.entrypoints.cli.main import app

REFERENCE = (
    Path(__file__).parents[2] / "reference/ride_pricing/template/configs/systems/ride-pricing.yaml"
)

WHOLE = """
system: shop
layers:
  config:
    prices: {path: config, link: live/config}
"""


def write(folder: Path, text: str, name: str = "shop") -> Path:
    path = folder / "configs" / "systems" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(folder: Path, text: str) -> SystemFile:
    return read_system_file(write(folder, text))


def test_paths_start_from_the_root_two_folders_up(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    assert file.at("live/config") == tmp_path / "live" / "config"
    assert file.journal_url == f"sqlite:///{tmp_path / '.ebbtide' / 'journal.db'}"
    assert file.url("sqlite:///mlflow.db") == f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WHOLE + "colour: blue\n", "colour"),
        (WHOLE + "folder: /etc\n", "folder"),
        (WHOLE + "proved_after: soon\n", "proved_after"),
        (WHOLE + "proved_after: -1\n", "proved_after"),
        (WHOLE + "proved_after: .nan\n", "proved_after"),
        (WHOLE + "serving: {port: '80'}\n", "serving.port"),
        (WHOLE + "serving: {handler: handler.py}\n", "handler"),
        (WHOLE.replace("prices", "Prices!"), "layers.config"),
        (
            WHOLE + "note: !!python/object/apply:os.system [ls]\n",
            "tags are not allowed",
        ),
        (WHOLE + "note: !custom x\n", "tags are not allowed"),
        (WHOLE + "a: &a [x, x]\nb: [*a, *a]\n", "anchors and aliases"),
        (WHOLE + "system: shop\n", "twice"),
        ("- a list\n", "mapping"),
        ("", "mapping"),
        ("system: [", "cannot be read as YAML"),
        ("system: shop\nlayers: {model: {m: {registered_model: m}}}\n", "mlflow"),
        ("system: other\nlayers: {}\n", "other.yaml"),
        ("x: " + "[" * 5000, "cannot be read as YAML"),
        ("x: " + "y" * 300_000, "larger than"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadConfiguration, match=says):
        read(tmp_path, text)


def gitops(**changes: object) -> str:
    thing: dict[str, object] = {
        "kind": "gitops",
        "repository": "https://git.example.org/manifests.git",
        "branch": "env/production-1.2",
        "files": {"values.yaml": {"tag": "config/prices@commit"}},
        "health": {"url": "http://svc/version", "file": "values.yaml", "key": "tag",
                   "reports": "version"},
    }  # fmt: skip
    return json.dumps({"system": "shop", "layers": {"infra": {"cluster": thing | changes}}})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"branch": "-f"}, "branch"),
        ({"branch": "a..b"}, "branch"),
        ({"branch": "a b"}, "branch"),
        ({"files": {}}, "files"),
        ({"health": {"url": "file:///etc/passwd", "file": "values.yaml", "key": "tag",
                     "reports": "v"}}, "health.url"),
        ({"health": {"url": "http://s", "file": "else.yaml", "key": "t", "reports": "v"}},
         "not one of `files`"),
        ({"health": {"url": "http://s", "file": "values.yaml", "key": "t"}}, "either"),
        ({"health": {"url": "http://s", "file": "values.yaml", "key": "t", "pattern": "v"}},
         "with a group"),
        ({"health": {"url": "http://s", "file": "values.yaml", "key": "t", "pattern": "("}},
         "with a group"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_gitops_thing_is_named(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    assert isinstance(read(tmp_path, gitops()).layers.infra["cluster"], GitopsThing)
    with pytest.raises(BadConfiguration, match=says):
        read(tmp_path, gitops(**changes))


def test_any_layer_may_be_missing_and_have_several_things(tmp_path: Path) -> None:
    assert read(tmp_path, "system: shop\nlayers: {}\n").layers.model_dump() == {
        name: {} for name in BUILT_IN
    }
    models = "{a: {registered_model: a}, b: {registered_model: b, alias: live}}"
    file = read(
        tmp_path, f"system: shop\nmlflow: {{tracking_uri: 'x'}}\nlayers: {{model: {models}}}\n"
    )
    assert list(layers_of(file)) == ["model"]
    assert layers_of(file)["model"].names == ("a", "b")


def test_the_cache_is_named_by_the_system_or_as_the_file_says(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE).cache_namespace == "shop"
    file = read(tmp_path, WHOLE + "cache: {namespace: shop-blue}\n")
    cache_of(file).start_epoch("t-1")
    with diskcache.Cache(str(file.state_dir / "cache")) as store:
        assert store.get("ebbtide:shop-blue:epoch") == "t-1"


def test_every_key_is_explained() -> None:
    told = schema()
    parts = {"the file": told, **told["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, about in part.get("properties", {}).items()
        if not about.get("description")
    ]
    assert not silent
    assert not [name for name, part in parts.items() if not part.get("description")]


def test_the_schema_takes_what_the_reader_takes_and_no_wrong_key() -> None:
    checked = Draft202012Validator(schema())
    checked.check_schema(schema())
    whole = yaml.safe_load(REFERENCE.read_text())
    read_system_file(REFERENCE)
    checked.validate(whole)
    checked.validate(yaml.safe_load(gitops()))
    checked.validate({"system": "shop", "layers": {"flags": {"checkout": {"anything": 1}}}})
    for wrong in (
        whole | {"colour": "blue"},
        whole | {"serving": {"prot": 1}},
        whole | {"layers": {"model": {"m": {"registred_model": "m"}}}},
        whole | {"layers": {"flags": {"checkout": 7}}},
        {"system": "shop"},
    ):
        assert not checked.is_valid(wrong), wrong


def test_the_command_line_prints_the_schema_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.output) == schema()
    path = tmp_path / "schema.json"
    assert CliRunner().invoke(app, ["schema", "--output", str(path)]).output == ""
    assert json.loads(path.read_text()) == schema()


JOURNALS = """
system: shop
mlflow: {tracking_uri: "%s"}
journal: sqlite:///%s
cache: {}
serving: {log: tables/served}
outputs: {quotes: {path: tables/quotes}}
layers:
  features: {f: {repository: repo, out: data/features, link: live/features}}
  data: {rides: {path: tables/rides, role: reference}}
  config: {prices: {path: config, link: live/config}}
"""


@pytest.mark.parametrize(
    ("tracking", "journal", "inside"),
    [
        ("sqlite:///mlflow.db", "repo/data/features/journal.db", "an output of DVC"),
        ("sqlite:///mlflow.db", "repo/raw/journal.db", "an output of DVC"),
        ("sqlite:///mlflow.db", "repo/models/deep/journal.db", "an output of DVC"),
        ("sqlite:///mlflow.db", "repo/.dvc/tmp/journal.db", "DVC's own folder"),
        ("sqlite:///mlflow.db", "live/features/journal.db", "features that are live"),
        ("sqlite:///mlflow.db", "live/config/journal.db", "what is live"),
        ("sqlite:///mlflow.db", "tables/rides/journal.db", "a table"),
        ("sqlite:///mlflow.db", "tables/quotes/journal.db", "a table"),
        ("sqlite:///mlflow.db", "tables/served/journal.db", "log of predictions"),
        ("sqlite:///mlflow.db", "mlflow.db", "MLflow's store"),
        ("sqlite:///mlflow.db", "mlruns/journal.db", "MLflow's store"),
        ("mlruns", "mlruns/0/journal.db", "MLflow's store"),
        ("sqlite:///mlflow.db", ".ebbtide/cache/journal.db", "the cache"),
        ("sqlite:///mlflow.db", "elsewhere/journal.db", "MLflow's store"),
    ],
)
def test_a_journal_inside_what_is_rolled_back_is_refused(
    tmp_path: Path, tracking: str, journal: str, inside: str
) -> None:
    repository = tmp_path / "repo"
    (repository / "models").mkdir(parents=True)
    (repository / "dvc.lock").write_text("stages: {train: {outs: [{path: models/deep}]}}\n")
    (repository / "raw.dvc").write_text("outs: [{path: raw}]\n")
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "mlruns")
    file = read(tmp_path, JOURNALS % (tracking, journal))
    with pytest.raises(BadConfiguration, match=inside):
        world_of(file)
    assert not (tmp_path / journal).exists()


@pytest.mark.parametrize("journal", ["journal.db", ".ebbtide/journal.db", "repo/journal.db"])
def test_a_journal_beside_it_is_taken(tmp_path: Path, journal: str) -> None:
    (tmp_path / "repo").mkdir()
    file = read(tmp_path, JOURNALS % ("sqlite:///mlflow.db", journal))
    world_of(file).journal.close()
    assert (tmp_path / journal).exists()


def test_an_unknown_system_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    folder = write(tmp_path, WHOLE).parent
    with pytest.raises(Unknown, match="shop"):
        find_system("shopp", folder)
    with pytest.raises(Unknown):
        find_system("../systems/shop", folder)
    assert find_system("shop", folder).system == "shop"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_system_file(path)
