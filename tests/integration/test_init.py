"""`ebbtide init` on real repositories, registries and tables: its file is read back as YAML."""

import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from ebbtide.adapters.discovery.places import Discovery, discover
from ebbtide.adapters.discovery.stores import Named, Registry
from ebbtide.adapters.system.file import SystemFile, read_system_file, schema
from ebbtide.core.errors import BadConfiguration, EbbtideError, Refused
from ebbtide.entrypoints.cli.init import answers as init_answers
from ebbtide.entrypoints.cli.init import asking as init_asking
from ebbtide.entrypoints.cli.init import file as init_file
from ebbtide.entrypoints.cli.init.answers import Flags
from ebbtide.entrypoints.cli.init.asking import Asker
from ebbtide.entrypoints.cli.init.text import render
from ebbtide.entrypoints.cli.main import app
from ebbtide.entrypoints.gateway.predictions_log import Served, to_delta
from reference.ride_pricing.workspace import TEMPLATE, create
from tests.integration import discovery_places as places

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "REDIS_URL", "EBBTIDE_SYSTEMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def run(folder: Path, *words: str, answers: str = "") -> Result:
    """The command in this process. Raises what it raises."""
    result = CliRunner().invoke(app, ["init", "--root", str(folder), *words], input=answers)
    if isinstance(result.exception, EbbtideError):
        raise result.exception
    return result


def values(folder: Path, name: str = "shop") -> dict[str, Any]:
    """The file as any YAML reader has it; ebbtide's own reader must agree."""
    path = folder / f"configs/systems/{name}.yaml"
    read_system_file(path)
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "shop"
    places.whole(folder)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with configuration in git, and nothing else."""
    folder = tmp_path / "shop"
    places.write(folder / "config/app.yaml", "a: 1\n")
    places.git(folder, "init", "--quiet")
    places.git(folder, "add", "--all")
    places.git(folder, "commit", "--quiet", "--message", "First")
    return folder


def test_a_whole_system_is_written_without_a_question(system: Path) -> None:
    before = places.git(system, "status", "--porcelain", "--ignored", "--untracked-files=all")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ended = subprocess.run(
        [sys.executable, "-m", "ebbtide", "init", "--yes"],
        cwd=system, env=environment, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert values(system) == {
        "system": "shop",
        "root": "../..",
        "mlflow": {"tracking_uri": "sqlite:///mlflow.db"},
        "layers": {
            "model": {"demand": {"registered_model": "demand", "alias": "champion"}},
            "features": {
                "features": {"repository": ".", "out": "data/features", "link": "live/features"}
            },
            "data": {
                "rides": {"path": "tables/rides", "role": "training"},
                "zones": {"path": "tables/zones", "role": "reference"},
            },
            "config": {"config": {"repository": ".", "path": "config", "link": "live/config"}},
            "prompt": {"greeting": {"prompt": "greeting", "alias": "production"}},
            "infra": {"serving": {"repository": ".", "path": "serving", "link": "live/serving"}},
        },
        "serving": {"handler": "infra/serving/handler.py"},
        "golden": {"questions": "golden/questions.jsonl", "smoke": "golden/smoke.jsonl"},
    }
    for command in ("release shop", "serve shop", "promote shop RELEASE", "doctor shop"):
        assert f"ebbtide {command}" in ended.stdout
    assert "Add to .gitignore: .ebbtide/\n" in ended.stdout
    after = places.git(system, "status", "--porcelain", "--ignored", "--untracked-files=all")
    assert set(after.splitlines()) - set(before.splitlines()) == {"?? configs/systems/shop.yaml"}


def test_the_reference_system_gets_the_layers_of_its_own_file(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = create(tmp_path / "rides", progress=lambda _: None).folder
    written = folder / "configs/systems/ride-pricing.yaml"
    written.unlink()
    places.write(folder / "data/trained.json", '{"version": 1, "validation_error": 0.5}')
    said = ["--model", "demand=ride-demand", "--features", "demand=data/features"]
    said += ["--config", "pricing=config", "--prompt", "rider-message"]
    run(folder, "ride-pricing", "--yes", *said)
    own = read_system_file(TEMPLATE / "configs/systems/ride-pricing.yaml")
    found = read_system_file(written)
    assert _discovered(found.layers.model_dump()) == _discovered(own.layers.model_dump())
    assert found.mlflow == own.mlflow
    assert found.serving.handler == own.serving.handler
    assert found.golden == own.golden


def _discovered(layers: dict[str, Any]) -> dict[str, Any]:
    """Without what only a person can decide: how much is enough, and what is checked."""
    decided = {"suite", "like", "fresh_within"}
    return {
        layer: {
            name: {key: value for key, value in thing.items() if key not in decided}
            for name, thing in things.items()
        }
        for layer, things in layers.items()
    }


def test_answers_come_from_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="terminals are POSIX")
    folder = tmp_path / "Shop Two"
    places.delta(folder / "tables/rides")
    places.delta(folder / "tables/zones")
    questions = ("Name of the system", "MLflow's tracking URI", "Table tables/rides",
                 "Table tables/zones", "Write ")  # fmt: skip
    answers = dict(zip(questions, ("two", "", "none", "sometimes\nreference", "y"), strict=True))
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ebbtide", "init"], cwd=folder, close_fds=True,
        stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    os.close(terminal)
    said = b""
    try:
        for question, answer in answers.items():
            while question.encode() not in said:
                said += os.read(main, 4096)
            said = said.partition(question.encode())[2]
            os.write(main, f"{answer}\n".encode())
        while True:
            said += os.read(main, 4096)
    except OSError:  # the other side has hung up
        pass
    finally:
        os.close(main)
    assert process.wait() == 0, said.decode()
    assert values(folder, "two")["layers"] == {
        "data": {"zones": {"path": "tables/zones", "role": "reference"}}
    }


def test_nothing_found_is_said_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    result = CliRunner().invoke(app, ["init", "--root", str(tmp_path / "shop"), "--yes"])
    assert isinstance(result.exception, Refused)
    assert "Nothing that ebbtide could roll back" in result.exception.message
    for way in ("--mlflow URI", "--features OUT", "--table PATH=ROLE", "--config PATH", "--redis"):
        assert way in result.output + result.exception.remedy
    assert not list((tmp_path / "shop").iterdir())


def test_a_flag_is_the_answer_and_none_leaves_a_kind_out(system: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "small.yaml"
    said = ["--model", "main=demand@live", "--features", "none", "--prompt", "none"]
    said += ["--table", "areas=tables/zones=training", "--table", "tables/rides=none"]
    said += ["--serving", "none", "--golden", "none", "--port", "0", "--output", str(output)]
    result = run(system, "--yes", *said)
    found = read_system_file(output)
    layers = found.layers.model_dump(exclude_defaults=True)
    assert layers == {
        "model": {"main": {"registered_model": "demand", "alias": "live"}},
        "data": {"areas": {"path": "tables/zones", "role": "training"}},
        "config": {"config": {"path": "config", "link": "live/config"}},
    }
    assert found.serving.port == 0 and found.at("config") == system / "config"
    assert "No golden set" in result.output
    assert f"ebbtide release small --systems {output.parent}" in result.output


def test_a_file_is_never_overwritten_unless_forced_and_then_kept(bare: Path) -> None:
    file = places.write(bare / "configs/systems/shop.yaml", "mine")
    with pytest.raises(Refused, match="is there already"):
        run(bare, "--yes")
    assert file.read_text() == "mine"
    run(bare, "--yes", "--force")
    first = file.read_text()
    run(bare, "--yes", "--force", "--port", "0")
    assert file.read_text() != first
    assert file.with_name("shop.yaml.bak").read_text() == "mine"
    assert file.with_name("shop.yaml.bak2").read_text() == first


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = places.write(tmp_path / "shop.yaml", "mine")
    table = {"path": "tables/rides", "role": "training"}
    text = render({"system": "shop", "layers": {"data": {"rides": table}}})
    with pytest.raises(Refused, match="is there already"):
        init_file.put_in_place(path, text, force=False)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_is_no_system_file_is_never_put_in_place(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="colour"):
        init_file.put_in_place(tmp_path / "shop.yaml", "colour: blue\n", force=True)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    blocked = places.write(tmp_path / "systems", "a file") / "shop.yaml"
    with pytest.raises(Refused, match="cannot be written"):
        init_file.put_in_place(blocked, "", force=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["Shop!"], "no name of a system"),
        (["shop", "--output", "other.yaml"], "cannot describe"),
        (["--output", "shop.txt"], "must be a .yaml file"),
        (["--model", "demand", "--mlflow", "none"], "needs an MLflow"),
        (["--table", "tables/rides"], "is not PATH=ROLE"),
        (["--table", "tables/rides=both"], "is not PATH=ROLE"),
        (["--golden", "golden.jsonl"], "is not there"),
        (["--config", "../elsewhere"], "no git repository"),
        (["--features", "../out"], "not below the root"),
    ],
)
def test_a_bad_answer_is_refused_and_nothing_is_written(
    bare: Path, words: list[str], says: str
) -> None:
    with pytest.raises(EbbtideError, match=says):
        run(bare, "--yes", *words)
    assert not (bare / "configs").exists()


def test_without_anybody_to_ask_nothing_is_written(bare: Path) -> None:
    with pytest.raises(Refused, match="No answer to: Name of the system"):
        run(bare)
    with pytest.raises(Refused, match="Not confirmed"):
        run(bare, "shop", answers="none\nn\n")
    assert not (bare / "configs").exists()


@pytest.fixture
def shared(bare: Path) -> Discovery:
    """A registry of the whole company answers."""
    return replace(
        discover(bare, bare / "configs/systems"),
        registry=Registry(
            "https://mlflow.example.org",
            "--mlflow",
            models=(Named("ours", ("live",)), Named("theirs"), Named("both", ("a", "b"))),
            prompts=(Named("greeting"), Named("theirs")),
        ),
    )


def test_of_a_shared_registry_nothing_is_taken_that_was_not_named(shared: Discovery) -> None:
    with pytest.raises(Refused, match="Which models belong to the system"):
        init_answers.values("shop", "../..", shared, Flags(prompts=("none",)), Asker(yes=True))
    flags = Flags(models=("ours", "also=theirs"), prompts=("hello=greeting@now",))
    layers = init_answers.values("shop", "../..", shared, flags, Asker(yes=True))["layers"]
    assert layers["model"] == {
        "ours": {"registered_model": "ours", "alias": "live"},
        "also": {"registered_model": "theirs", "alias": "champion"},
    }
    assert layers["prompt"] == {"hello": {"prompt": "greeting", "alias": "now"}}
    flags = Flags(models=("both",), prompts=("none",))
    with pytest.raises(Refused, match="Alias of both"):
        init_answers.values("shop", "../..", shared, flags, Asker(yes=True))


def test_things_with_one_name_get_numbers_and_links_of_their_own(shared: Discovery) -> None:
    flags = Flags(
        models=("a=ours", "a=theirs"),
        prompts=("none",),
        config=("config", "app=config"),
        tables=("x/rides=training", "s3://lake/raw/rides=reference"),
    )
    layers = init_answers.values("shop", "../..", shared, flags, Asker(yes=True))["layers"]
    assert list(layers["model"]) == ["a", "a-2"]
    assert {name: keys["link"] for name, keys in layers["config"].items()} == {
        "config": "live/config",
        "app": "live/config-2",
    }
    assert {name: keys["path"] for name, keys in layers["data"].items()} == {
        "rides": "x/rides",
        "rides-2": "s3://lake/raw/rides",
    }


def test_the_log_of_served_predictions_is_no_data_of_the_system(bare: Path) -> None:
    served = Served(0.0, "r", 1, "replica", b"{}", b"1", 0.5, cached=False)
    to_delta(str(bare / "tables/served"))([served])
    run(bare, "--yes")
    found = values(bare)
    assert found["serving"] == {"log": "tables/served"}
    assert list(found["layers"]) == ["config"]


def test_an_interrupted_question_is_an_interruption_and_no_refusal() -> None:
    def interrupted() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise typer.Abort from None  # as a prompt does

    with pytest.raises(KeyboardInterrupt):
        init_asking._answered(interrupted, "Name")


def test_a_registry_that_is_away_is_written_as_it_was_said(bare: Path) -> None:
    uri = "postgresql://nobody@127.0.0.1:1/mlflow"
    result = run(bare, "--yes", "--mlflow", uri, "--model", "demand")
    assert "did not answer" in result.output
    assert values(bare)["mlflow"] == {"tracking_uri": uri}


def test_a_password_of_the_environment_is_not_written(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://me:s3cret@127.0.0.1:1/0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:1")
    result = run(bare, "--yes", "--model", "demand")
    assert "s3cret" not in (bare / "configs/systems/shop.yaml").read_text() + result.output
    assert values(bare)["mlflow"] == {"tracking_uri": "http://127.0.0.1:1"}
    assert "cache" not in values(bare)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    run(bare, "--yes", "--model", "demand", "--force")
    assert values(bare)["cache"] == {"url": "redis://127.0.0.1:1/0"}


def test_every_key_of_the_schema_is_there_with_its_explanation(bare: Path) -> None:
    run(bare, "--yes")
    text = (bare / "configs/systems/shop.yaml").read_text()
    keys = re.findall(r"^#?([a-z_]+):", text, re.MULTILINE)
    assert keys == list(SystemFile.model_fields)
    plain = " ".join(re.sub(r"^[# ]*", "", text, flags=re.MULTILINE).split())
    for name, explained in descriptions(schema()):
        assert f"{name}:" in text
        assert " ".join(explained.split()) in plain, name


def test_taking_the_mark_away_from_every_key_gives_a_system_file_again(bare: Path) -> None:
    run(bare, "--yes")
    text = (bare / "configs/systems/shop.yaml").read_text()
    text = re.sub("pattern: ''", "pattern: 'v(.*)'", text)  # or `reports`: one of the two
    while (bare_of_marks := re.sub(r"^( *)#(?! \S)", r"\1", text, flags=re.MULTILINE)) != text:
        text = bare_of_marks
    whole = places.write(bare / "configs/systems/whole/shop.yaml", text)
    found = read_system_file(whole)
    assert set(found.layers.model_fields_set) == set(type(found.layers).model_fields)


def descriptions(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Every key of a JSON schema with its explanation."""
    parts = [schema, *schema["$defs"].values()]
    return [
        (name, key["description"])
        for part in parts
        for name, key in part.get("properties", {}).items()
        if "description" in key
    ]
