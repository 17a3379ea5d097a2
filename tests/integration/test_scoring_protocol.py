"""The gateway against MLflow's own scoring server, body by body."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ebbtide.core.release import Release
from ebbtide.entrypoints.gateway import protocol
from tests.integration.gateway_fixtures import Running, running
from tests.integration.serving_world import MLFLOW_WARNS, SYSTEM, Marked, save_model

pytestmark = [
    pytest.mark.filterwarnings(MLFLOW_WARNS),
    pytest.mark.filterwarnings("ignore:Using `httpx`"),
]

JSON = "application/json"
CSV = "text/csv"
SPLIT = {"columns": ["x", "y"], "data": [[1.0, 2], [3.5, 4]]}
RECORDS = [{"x": 1.0, "y": 2}, {"x": 3.5, "y": 4}]
COLUMNS = {"x": [1.0, 3.5], "y": [2, 4]}


CODE = """
import mlflow


class Sums(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if (model_input["x"] > 1e6).any():
            raise KeyError("too much")
        return (model_input["x"] * params["times"] + model_input["y"]).to_numpy()


mlflow.models.set_model(Sums())
"""


def save(folder: Path) -> None:
    """A model with a signature and a parameter."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec("double", "x"), ColSpec("long", "y")]),
        params=ParamSchema([ParamSpec("times", "double", 10.0)]),
    )
    save_model(folder, CODE, signature=signature)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    marked = Marked(tmp_path_factory.mktemp("protocol"))
    pin = marked.models.add("sums", save)
    release = marked.record(Release(SYSTEM, {"model": (pin,)}))
    with running(marked, handler="") as found:
        found.serves(marked.switch(release))
        yield found
    marked.close()


@pytest.fixture(scope="module")
def mlflow_server(gateway: Running) -> httpx.Client:
    """MLflow's scoring server with the very same model."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import init
    from starlette.testclient import TestClient

    (folder,) = gateway.marked.models.root.iterdir()
    return TestClient(init(mlflow.pyfunc.load_model(str(folder))), raise_server_exceptions=False)


def both(
    gateway: Running, mlflow_server: httpx.Client, body: bytes, content_type: str
) -> tuple[httpx.Response, httpx.Response]:
    headers = {"content-type": content_type}
    ours = gateway.client.http.post("/invocations", content=body, headers=headers)
    return ours, mlflow_server.post("/invocations", content=body, headers=headers)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (encoded({"dataframe_split": SPLIT}), JSON),
        (encoded({"dataframe_split": {**SPLIT, "index": [7, 8]}}), JSON),
        (encoded({"dataframe_records": RECORDS}), JSON),
        (encoded({"instances": RECORDS}), JSON),
        (encoded({"inputs": COLUMNS}), JSON),
        (b"x,y\n1.0,2\n3.5,4\n", CSV),
        (b"y,x\n2,1.0\n4,3.5\n", "text/csv; charset=utf-8"),
        (encoded({"dataframe_records": RECORDS}), "application/json; charset=UTF-8"),
        (encoded({"dataframe_records": RECORDS, "params": {"times": 2.0}}), JSON),
        (encoded({"dataframe_records": [{"y": 2, "x": 1, "more": "z"}]}), JSON),
        (encoded({"dataframe_records": RECORDS, "other": 1}), JSON),
    ],
)
def test_it_answers_as_mlflow_does(
    gateway: Running, mlflow_server: httpx.Client, body: bytes, content_type: str
) -> None:
    ours, theirs = both(gateway, mlflow_server, body, content_type)
    assert theirs.status_code == 200, theirs.text
    assert (ours.status_code, ours.json()) == (200, theirs.json())
    assert ours.headers["content-type"] == theirs.headers["content-type"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"\xff\xfe", JSON),
        (b"[]", JSON),
        (b"3", JSON),
        (b"{}", JSON),
        (encoded({"rows": RECORDS}), JSON),
        (encoded({"inputs": COLUMNS, "dataframe_split": SPLIT}), JSON),
        (encoded({"instances": RECORDS, "inputs": COLUMNS}), JSON),
        (encoded({"dataframe_records": {"x": 1}}), JSON),
        (encoded({"dataframe_split": [1, 2]}), JSON),
        (encoded({"dataframe_split": {"data": [[1, 2]], "rows": 3}}), JSON),
        (encoded({"dataframe_records": [{"x": "text", "y": 2}]}), JSON),
        (encoded({"dataframe_records": [{"x": 1.0}]}), JSON),
        (encoded({"dataframe_records": RECORDS, "params": {"times": "often"}}), JSON),
        (encoded({"dataframe_records": [{"x": 1e7, "y": 2}]}), JSON),
        (b"", CSV),
        (b"\xff\xfe", CSV),
        (b"x,y\na,b\n", CSV),
        (encoded({"inputs": COLUMNS}), "application/xml"),
        (encoded({"inputs": COLUMNS}), "application/json; charset=latin-1"),
        (encoded({"inputs": COLUMNS}), "application/json; version=2"),
    ],
)
def test_it_refuses_as_mlflow_does(
    gateway: Running, mlflow_server: httpx.Client, body: bytes, content_type: str
) -> None:
    ours, theirs = both(gateway, mlflow_server, body, content_type)
    assert ours.status_code == theirs.status_code, (ours.text, theirs.text)
    assert set(ours.json()) == {"error_code", "message"}
    if "json" in theirs.headers["content-type"]:
        assert ours.json()["error_code"] == theirs.json()["error_code"]
    assert "Traceback" not in ours.text


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"dataframe_records":' + b"[" * 100_000, JSON),
        (b'{"inputs":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, JSON),
        (encoded({"inputs": None}), JSON),
        (encoded({"dataframe_records": None}), JSON),
        (encoded({"dataframe_split": {"data": 3}}), JSON),
        (encoded({"dataframe_records": RECORDS, "params": [1]}), JSON),
        (encoded({"dataframe_records": [{"x": float("nan"), "y": 1}]}), JSON),
        (encoded({"dataframe_records": [{"x": 1, "y": 2**70}]}), JSON),
    ],
)
def test_what_cannot_be_asked_is_a_clear_error(
    gateway: Running, body: bytes, content_type: str
) -> None:
    headers = {"content-type": content_type}
    answer = gateway.client.http.post("/invocations", content=body, headers=headers)
    # NaN in, NaN out: that one is the release's own error.
    assert answer.status_code in (400, 500), answer.text
    assert answer.json()["message"]
    assert len(answer.content) < 5000
    assert gateway.client.http.get("/ping").status_code == 200


def test_a_request_without_a_content_type_is_refused(gateway: Running) -> None:
    request = gateway.client.http.build_request("POST", "/invocations", content=b"{}")
    assert gateway.client.http.send(request).status_code == 415


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(gateway: Running, declared: bool) -> None:
    large = b" " * (protocol.LARGEST + 1)
    headers = {"content-type": JSON}
    with httpx.Client(base_url=gateway.gateway.url, trust_env=False) as client:
        content = large if declared else (large[n : n + 2**20] for n in range(0, len(large), 2**20))
        try:
            answer = client.post("/invocations", content=content, headers=headers)
        except httpx.WriteError:
            return  # It hung up before all was sent, as it may.
    assert answer.status_code == 413
    assert answer.json()["error_code"] == "BAD_REQUEST"


def test_the_version_is_that_of_mlflow(gateway: Running, mlflow_server: httpx.Client) -> None:
    assert gateway.client.http.get("/version").text == mlflow_server.get("/version").text


def test_the_order_of_columns_is_part_of_the_question(gateway: Running) -> None:
    headers = {"content-type": JSON}
    bodies = (b'{"dataframe_records":[{"x":5,"y":6}]}', b'{"dataframe_records":[{"y":6,"x":5}]}')
    outcomes = [
        gateway.client.http.post("/invocations", content=body, headers=headers).headers[
            "x-ebbtide-cache"
        ]
        for body in (*bodies, *bodies)
    ]
    assert outcomes == ["miss", "miss", "hit", "hit"]
