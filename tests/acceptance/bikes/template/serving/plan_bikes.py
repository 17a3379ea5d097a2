"""How many bikes and crews an hour of the coming week needs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import yaml


def load(parts: Any) -> Callable[[pd.DataFrame], list[dict[str, Any]]]:
    """Answers rows of `at`, an hour as ISO 8601."""
    model = parts.models["demand"]
    columns = model.metadata.get_input_schema().input_names()
    coming = pd.read_parquet(parts.features["demand"] / "coming.parquet").set_index("at")
    crews = parts.tables["crews"].to_pandas().set_index("hour")["crews"]
    planning = yaml.safe_load((parts.config["planning"] / "planning.yaml").read_text())

    def answer(rows: pd.DataFrame) -> list[dict[str, Any]]:
        missing = set(rows["at"]) - set(coming.index)
        if missing:
            raise ValueError(f"no features for {min(missing)}")
        asked = coming.loc[rows["at"]]
        rentals = np.maximum(model.predict(asked[columns]), 0)
        bikes = np.ceil(rentals * planning["margin"] / planning["rentals_per_bike"])
        working = crews.loc[asked["hour"].astype(int)]
        return [
            {"rentals": float(expected), "bikes": int(ready), "crews": int(many)}
            for expected, ready, many in zip(rentals, bikes, working, strict=True)
        ]

    return answer
