"""Prices a ride: the demand model's answer, turned into a surge, a price and a message.

`load(parts)` is called once for a release. `parts` has what the release is made of:

    models     name -> pyfunc model           features   name -> folder
    tables     name -> pyarrow.Table          config     name -> folder
    prompts    name -> template               infra      name -> folder
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import yaml
from threadpoolctl import ThreadpoolController

Answers = list[dict[str, Any]]


class Pricing:
    """Answers rows of `zone` and `hour` (ISO 8601) of the coming week."""

    def __init__(self, parts: Any) -> None:
        coming = pd.read_parquet(parts.features["demand"] / "coming.parquet")
        self.features = coming
        self.row = {
            key: n for n, key in enumerate(zip(coming["zone"], coming["hour"], strict=True))
        }
        self.model = parts.models["demand"]
        self.columns = self.model.metadata.get_input_schema().input_names()
        self.drivers = parts.tables["zones"].to_pandas().set_index("zone")
        self.config = yaml.safe_load((parts.config["pricing"] / "pricing.yaml").read_text())
        self.message = parts.prompts["rider-message"]
        self.threads = ThreadpoolController()

    def __call__(self, rows: pd.DataFrame) -> Answers:
        return self.price(rows, self.demand(rows))

    def demand(self, rows: pd.DataFrame) -> np.ndarray:
        """Rides per hour that the model expects. ValueError for a row without features."""
        if missing := {"zone", "hour"} - set(rows.columns):
            raise ValueError(f"each row needs: {', '.join(sorted(missing))}")
        asked = zip(rows["zone"], times(rows), strict=True)
        found = self.features[self.columns].iloc[
            [self._row(str(zone), hour) for zone, hour in asked]
        ]
        # The trees are small: threads of requests side by side would only wait for each other.
        with self.threads.limit(limits=1, user_api="openmp"):
            return np.asarray(self.model.predict(found))

    def price(self, rows: pd.DataFrame, demand: np.ndarray) -> Answers:
        """What the rides cost at some demand."""
        surge = self.surge(rows, demand)
        prices = np.round(self.config["base_fare"] * surge, 2)
        found = zip(rows["zone"], demand, surge, prices, strict=True)
        return [self._answer(zone, *map(float, numbers)) for zone, *numbers in found]

    def surge(self, rows: pd.DataFrame, demand: np.ndarray) -> np.ndarray:
        """The curve at rides wanted for each ride that the drivers can take, up to the cap."""
        at, factor = zip(*self.config["curve"], strict=True)
        hour = times(rows).dt.hour
        shift = self.drivers.loc[rows["zone"]].reset_index()
        drivers = np.where(hour.between(6, 21), shift["drivers_day"], shift["drivers_night"])
        pressure = demand / (drivers * self.config["rides_per_driver"])
        surge: np.ndarray = np.minimum(np.interp(pressure, at, factor), self.config["cap"])
        return surge

    def _row(self, zone: str, hour: pd.Timestamp) -> int:
        if (zone, hour) not in self.row:
            raise ValueError(f"no features for zone {zone!r} at {hour}")
        return self.row[zone, hour]

    def _answer(self, zone: str, demand: float, surge: float, price: float) -> dict[str, Any]:
        words = {
            "zone": zone,
            "price": f"{price:.2f}",
            "surge": f"{surge:.1f}",
            "currency": self.config["currency"],
        }
        message = re.sub(r"{{\s*(\w+)\s*}}", lambda word: words[word[1]], self.message)
        return {
            "demand": demand,
            "surge": surge,
            "price": price,
            "message": message.strip(),
        }


def times(rows: pd.DataFrame) -> pd.Series:
    """When the rides are wanted. ValueError for what is not ISO 8601."""
    found = pd.to_datetime(rows["hour"], utc=True, format="ISO8601", errors="coerce")
    if found.isna().any():
        raise ValueError(f"not a time by ISO 8601: {rows['hour'][found.isna()].iloc[0]!r}")
    return found


def load(parts: Any) -> Callable[[pd.DataFrame], Answers]:
    """What serves a release."""
    return Pricing(parts)
