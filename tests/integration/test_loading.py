"""Releases in memory: each with its own code, sound answers, and nothing left behind."""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from ebbtide.adapters.loading.aside import AsideScorer
from ebbtide.adapters.loading.jsonable import Unsound, plain
from ebbtide.adapters.loading.release import BadAnswer, BadQuestion, load
from ebbtide.adapters.mlflow.models import Models
from ebbtide.adapters.mlflow.prompts import Prompts
from ebbtide.adapters.system.file import ModelThing, PromptThing
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import BadConfiguration, NotRestorable
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin, Release
from tests.integration.gateway_fixtures import until
from tests.integration.registry_store import on_sqlite
from tests.integration.serving_world import (
    HANDLER,
    MLFLOW_WARNS,
    MODEL_CODE,
    Folders,
    Marked,
    marks,
    save_model,
)
from tests.integration.test_settings import Place

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)

ROWS = [{"x": 1.0}, {"x": 2.0}]


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    with closing(Marked(tmp_path)) as found:
        yield found


@pytest.fixture
def infra(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "infra")


def coded(infra: Folders, code: str, **files: str) -> tuple[Release, dict[str, Layer]]:
    """A release that is nothing but serving code."""

    def fill(folder: Path) -> None:
        (folder / "handler.py").write_text(code)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)

    release = Release("coded", {"infra": (infra.add("serving", fill),)})
    return release, {"infra": cast(Layer, infra)}


def answering(infra: Folders, expression: str) -> Any:
    code = (
        "import numpy as np\nimport pandas as pd\n"
        f"def load(parts):\n    return lambda rows: {expression}\n"
    )
    return load(*coded(infra, code), HANDLER)


def test_every_layer_of_a_release_answers(marked: Marked) -> None:
    loaded = load(marked.release("v1"), marked.world.layers, HANDLER)
    answers = loaded.answer(ROWS)
    assert [marks(answer) for answer in answers] == [{"v1"}, {"v1"}]
    assert [answer["x"] for answer in answers] == [1.0, 2.0]
    assert json.loads(json.dumps(answers)) == answers


def test_versions_name_every_layer(marked: Marked) -> None:
    release = marked.release("v1")
    loaded = load(release, marked.world.layers, HANDLER)
    assert loaded.release_id == release.id
    assert set(loaded.versions) == {"model", "config", "prompt", "infra"}
    assert release.pins("model")[0].digest[:10] in loaded.versions["model"]


def test_what_code_keeps_in_its_module_is_not_seen_by_another_release(infra: Folders) -> None:
    code = (
        "SEEN = []\n"
        "def load(parts):\n"
        "    SEEN.append(1)\n"
        "    return lambda rows: [len(SEEN)] * len(rows)\n"
    )
    release, layers = coded(infra, code)
    first, second = (load(release, layers, HANDLER) for _ in range(2))
    assert first.answer(ROWS) == [1, 1]
    assert second.answer(ROWS) == [1, 1]


def test_code_may_import_its_neighbours_and_leaves_the_pinned_folder_as_it_was(
    infra: Folders,
) -> None:
    code = (
        "from . import prices\n"
        "def load(parts):\n    return lambda rows: [prices.BASE] * len(rows)\n"
    )
    cheap = coded(infra, code, prices="BASE = 1")
    dear = coded(infra, code, prices="BASE = 2")
    loaded = [load(*release, HANDLER) for release in (cheap, dear)]
    assert [one.answer(ROWS) for one in loaded] == [[1, 1], [2, 2]]
    for release, _ in (cheap, dear):
        pin = release.pins("infra")[0]
        assert tree_digest(infra.path(pin)) == pin.digest


def test_a_release_that_is_let_go_takes_its_modules_along(infra: Folders) -> None:
    def pinned() -> set[str]:
        return {name for name in sys.modules if name.startswith("ebbtide_pinned_")}

    before = pinned()
    loaded = answering(infra, "[1] * len(rows)")
    assert len(pinned() - before) == 2
    del loaded
    assert pinned() - before == set()


def test_two_models_bring_modules_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Folders(tmp_path / "models")

    def fill(folder: Path, mark: str) -> None:
        code = tmp_path / mark / "demand_code"
        code.mkdir(parents=True)
        (code / "__init__.py").write_text(f"MARK = {mark!r}\n")
        with monkeypatch.context() as saving:
            saving.syspath_prepend(str(code.parent))
            wanted = "from demand_code import MARK\n" + MODEL_CODE.replace("{mark!r}", "MARK")
            save_model(folder, wanted, code_paths=[str(code)])
        del sys.modules["demand_code"]

    pins = [models.add("demand", partial(fill, mark=mark)) for mark in ("v1", "v2")]
    path = list(sys.path)
    layers = {"model": cast(Layer, models)}
    loaded = [load(Release("two", {"model": (pin,)}), layers, "") for pin in pins]
    assert [one.answer(ROWS) for one in loaded] == [["v1", "v1"], ["v2", "v2"]]
    assert sys.path == path
    assert "demand_code" not in sys.modules
    for pin in pins:
        assert tree_digest(models.path(pin)) == pin.digest


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("[1.0]", "1 answers to 2 rows"),
        ("[]", "0 answers to 2 rows"),
        ("[1.0, float('nan')]", "nan"),
        ("np.array([1.0, np.inf])", "inf"),
        ("rows['x'].where(rows['x'] > 1)", "nan"),
        ("[{'price': float('nan')}, {'price': 1}]", "nan"),
        ("[pd.NaT, pd.Timestamp('2020-01-01')]", "NaTType"),
        ("[pd.NA, 1]", "NAType"),
        ("[None, 1]", "no answer to row 0"),
        ("{'a': 1, 'b': 2}", "one dict for all rows"),
        ("'ab'", "one str for all rows"),
        ("None", "one NoneType for all rows"),
        ("[object(), object()]", "JSON cannot hold"),
    ],
)
def test_an_unsound_answer_is_an_error(infra: Folders, expression: str, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        answering(infra, expression).answer(ROWS)


@pytest.mark.parametrize(
    ("expression", "answers"),
    [
        ("rows['x'] * 2", [2.0, 4.0]),
        ("np.array([1, 2], dtype='int32')", [1, 2]),
        ("np.array(['a', 'b'])", ["a", "b"]),
        ("(np.float32(x) for x in [0.5, 1.5])", None),
        ("list(map(np.float32, [0.5, 1.5]))", [0.5, 1.5]),
        ("[np.bool_(True), {'deep': (np.int64(1), np.str_('s'))}]", [True, {"deep": [1, "s"]}]),
        ("pd.DataFrame({'a': [1, 2]})", [{"a": 1}, {"a": 2}]),
        ("[pd.Timestamp('2020-01-01'), None or 'x']", ["2020-01-01T00:00:00", "x"]),
    ],
)
def test_answers_are_plain_json(infra: Folders, expression: str, answers: Any) -> None:
    loaded = answering(infra, expression)
    if answers is None:
        with pytest.raises(BadAnswer):
            loaded.answer(ROWS)
        return
    got = loaded.answer(ROWS)
    assert got == answers
    assert json.loads(json.dumps(got)) == answers


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), {"a": [float("nan")]}, b"x", object()]
)
def test_plain_gives_json_or_refuses(value: Any) -> None:
    try:
        json.dumps(plain(value), allow_nan=False)
    except Unsound:
        return


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("1/0", "ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("def load(parts): raise KeyError('gone')", "gone"),
        ("def load(parts): return 3", "gave a int, no function"),
        ("x = 1", "defines no `load"),
        ("def load(parts:", "SyntaxError"),
    ],
)
def test_code_that_cannot_be_loaded_is_said_with_its_reason(
    infra: Folders, code: str, why: str
) -> None:
    with pytest.raises(NotRestorable, match=why):
        load(*coded(infra, code), HANDLER)


@pytest.mark.parametrize(
    "file", ["infra/serving/gone.py", "infra/serving/../../x.py", "infra/serving/a.txt"]
)
def test_code_that_is_not_in_the_pinned_folder_is_refused(infra: Folders, file: str) -> None:
    release, layers = coded(infra, "x = 1")
    with pytest.raises(NotRestorable):
        load(release, layers, file)


def test_a_handler_of_a_layer_that_the_release_lacks_is_refused(infra: Folders) -> None:
    release, layers = coded(infra, "x = 1")
    with pytest.raises(BadConfiguration, match="config/serving"):
        load(release, layers, "config/serving/handler.py")


def test_a_layer_that_no_adapter_serves_is_refused(infra: Folders) -> None:
    release, _ = coded(infra, "x = 1")
    with pytest.raises(BadConfiguration, match="`infra`"):
        load(release, {}, HANDLER)


def test_a_changed_content_is_not_loaded(marked: Marked) -> None:
    release = marked.release("v1")
    pin = release.pins("config")[0]
    (marked.config.path(pin) / "mark.json").write_text('"changed"')
    with pytest.raises(NotRestorable, match="has changed"):
        load(release, marked.world.layers, HANDLER)


def test_several_models_need_code_that_says_which_answers(marked: Marked) -> None:
    release = marked.release("v1")
    (pin,) = release.pins("model")
    two = release.with_pins("model", Pin("second", pin.digest))
    with pytest.raises(BadConfiguration, match="2 models"):
        load(two, marked.world.layers, "")


def test_only_reference_tables_are_read(infra: Folders) -> None:
    import pyarrow as pa

    class Tables:
        asked: Sequence[str] = ()

        def prepare(self, pin: Pin) -> None: ...

        def read(self, pin: Pin) -> pa.Table:
            self.asked = (*self.asked, pin.name)
            return pa.table({"zone": ["a", "b"]})

    code = (
        "def load(parts):\n"
        "    assert set(parts.tables) == {'zones'}\n"
        "    return lambda rows: parts.tables['zones']['zone'].to_pylist()\n"
    )
    release, layers = coded(infra, code)
    tables = Tables()
    data = (Pin("zones", "d1", {"role": "reference"}), Pin("rides", "d2", {"role": "training"}))
    whole = Release("coded", {**release.layers, "data": data})
    assert load(whole, {**layers, "data": cast(Layer, tables)}, HANDLER).answer(ROWS) == ["a", "b"]
    assert tables.asked == ("zones",)


def test_params_are_refused_where_code_answers(infra: Folders) -> None:
    with pytest.raises(BadQuestion, match="params"):
        answering(infra, "[1, 2]").answer(ROWS, {"temperature": 1})


def test_a_load_that_hangs_does_not_hold_up_another(infra: Folders) -> None:
    hangs = infra.root.parent / "hangs"
    waits = (
        "import threading\n"
        "from pathlib import Path\n"
        "def load(parts):\n"
        f"    Path({str(hangs)!r}).touch()\n"
        "    threading.Event().wait()\n"
    )
    release, layers = coded(infra, waits)
    threading.Thread(target=load, args=(release, layers, HANDLER), daemon=True).start()
    until(hangs.exists, "it hangs")
    assert answering(infra, "[1, 2]").answer(ROWS) == [1, 2]


def test_the_scorer_answers_as_each_release_and_keeps_the_last_three(infra: Folders) -> None:
    counted = (
        "from pathlib import Path\n"
        "def load(parts):\n"
        "    with (Path({log!r}) / '{n}').open('a') as log:\n"
        "        log.write('x')\n"
        "    return lambda rows: [{n}] * len(rows)\n"
    )
    log = infra.root.parent
    made = [coded(infra, counted.format(log=str(log), n=n)) for n in range(4)]
    scorer = AsideScorer(made[0][1], HANDLER)
    for n in (0, 1, 2, 1, 0, 3, 0, 1, 2):
        assert scorer.answers(made[n][0], ROWS) == (n, n)
    assert [(log / str(n)).read_text() for n in range(4)] == ["x", "x", "xx", "x"]


def test_a_release_of_real_stores_answers(tmp_path: Path) -> None:
    """Models and prompts in MLflow, code and configuration in git."""
    store, place = on_sqlite(tmp_path), Place(tmp_path / "workspace")
    store.log_model("price", 2.5)
    store.client.register_prompt("rider", "Hello {{rider}}")
    (place.folder / "handler.py").write_text(
        "def load(parts):\n"
        "    cap = (parts.config['pricing'] / 'cap.yaml').read_text()\n"
        "    def answer(rows):\n"
        "        prices = parts.models['demand'].predict(rows)\n"
        "        return [{'price': p, 'cap': cap, 'says': parts.prompts['says']} for p in prices]\n"
        "    return answer\n"
    )
    place.commit(cap="3")
    layers: dict[str, Any] = {
        "model": Models(
            store.uri, "", {"demand": ModelThing(registered_model="price")}, tmp_path / "state"
        ),
        "prompt": Prompts(store.uri, "", {"says": PromptThing(prompt="rider")}),
        "config": place.settings(),
    }
    pins = {layer: (at.pin(at.names[0]),) for layer, at in layers.items()}
    loaded = load(Release("real", pins), layers, "config/pricing/handler.py")
    said = {"price": 2.5, "cap": "3", "says": "Hello {{rider}}"}
    assert loaded.answer([{"zone": "a", "demand": 1.0}, {"zone": "b", "demand": 2.0}]) == [said] * 2
    for layer in ("model", "config"):
        assert [layers[layer].problems(pin) for pin in pins[layer]] == [[]]
