"""What registered versions were made of: tags that count only with the bytes they were written for.

Trusted is whoever may write tags in the registry: MLflow signs nothing. Not
trusted are a version's number, name, alias or description, nor a tag whose
version has other artifacts now than when it was tagged. So a version that was
deleted, swapped or changed is passed over, and never taken for the model of a
lineage that it once had.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebbtide.adapters.mlflow.artifacts import artifacts, content_digest
from ebbtide.adapters.mlflow.registry import Registry, absent_as_none
from ebbtide.core.digests import canonical
from ebbtide.core.errors import Refused

LINEAGE_TAG = "ebbtide.lineage"
"""Digest of all that the version was made of."""
OF_TAG = "ebbtide.lineage.of"
"""The same for people, as JSON."""
ARTIFACTS_TAG = "ebbtide.artifacts"
"""sha256 of the artifacts that the other tags speak of."""
METRIC_TAG = "ebbtide.metric"
_PAGE = 100


class Lineages:
    """The lineages of registered versions. `store` is where artifacts are downloaded to."""

    def __init__(self, registry: Registry, store: Path) -> None:
        self._registry, self._store = registry, store

    def versions(self, client: Any, model: str, lineage: str) -> Iterator[Any]:
        """The versions that are tagged with exactly that lineage, newest first."""
        _refuse_quote(model)
        wanted = f"name='{model}' and tags.`{LINEAGE_TAG}` = '{lineage}'"
        token = None
        while True:
            page = client.search_model_versions(
                wanted,
                max_results=_PAGE,
                order_by=["version_number DESC"],
                page_token=token,
            )
            # The filter is the server's: what it does not know it may leave out.
            yield from (each for each in page if (each.tags or {}).get(LINEAGE_TAG) == lineage)
            token = page.token
            if not token:
                return

    def fault(self, client: Any, version: Any) -> str:
        """Why a version is not what its tags say; empty where it is, byte by byte. Reads only."""
        what = f"{version.name} version {version.version}"
        if version.status != "READY":
            return f"{what} is {version.status}, not READY."
        recorded = (version.tags or {}).get(ARTIFACTS_TAG, "")
        if not recorded:
            return f"{what}: nothing says which artifacts its lineage was recorded for."
        try:
            now = self._artifacts(client, version)
        except Refused as fault:
            return str(fault)
        if now != recorded:
            return (
                f"{what}: its artifacts ({now[:10]}) are not those that its lineage was "
                f"recorded for ({recorded[:10]})."
            )
        return ""

    def record(
        self,
        client: Any,
        version: Any,
        lineage: str,
        of: Mapping[str, Any],
        content: str,
        metrics: Mapping[str, float],
    ) -> str:
        """Tag a version whose artifacts have this digest; why it was not done, or nothing.

        The lineage is written last: without it the other tags mean nothing. A version
        that was tagged for other artifacts keeps its tags, and is passed over for them.
        """
        tags = version.tags or {}
        if tags.get(ARTIFACTS_TAG, content) != content:
            return (
                f"{version.name} version {version.version} has other artifacts than when its "
                f"lineage was recorded; that is left as it is."
            )
        wanted = {
            ARTIFACTS_TAG: content,
            OF_TAG: canonical(of).decode(),
            **{f"{METRIC_TAG}.{name}": repr(value) for name, value in metrics.items()},
            LINEAGE_TAG: lineage,
        }
        for key, value in wanted.items():
            if tags.get(key) != value:
                client.set_model_version_tag(version.name, str(version.version), key, value)
        return ""

    def metric(self, client: Any, version: Any, name: str) -> float | None:
        """What was recorded with the version, else what its run has logged; None: neither."""
        text = (version.tags or {}).get(f"{METRIC_TAG}.{name}")
        if text is not None:
            return number(text)
        run_id = version.run_id
        run = absent_as_none(lambda: client.get_run(run_id)) if run_id else None
        return None if run is None else number(run.data.metrics.get(name))

    def _artifacts(self, client: Any, version: Any) -> str:
        with artifacts(self._registry, client, version, self._store) as folder:
            return content_digest(folder)


def number(value: Any) -> float | None:
    """A figure that somebody else has written; None where there is none, NaN where it is none."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _refuse_quote(model: str) -> None:
    if "'" in model:
        raise Refused(f"The registered model's name {model} has a quote.")
