"""Prices a ride: the demand model's answer, turned into a surge, a price and a message.

`load(parts)` is called once for a release. `parts` has what the release is made of:

    models     name -> pyfunc model           features   name -> folder
    tables     name -> pyarrow.Table          config     name -> folder
    prompts    name -> template               infra      name -> folder
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import yaml
from threadpoolctl import ThreadpoolController

Answers = list[dict[str, Any]]
DAY = range(6, 22)
"""The hours in which the day's drivers are out."""


class Pricing:
    """Answers rows of `zone` and `hour` (ISO 8601) of the coming week."""

    def __init__(self, parts: Any) -> None:
        # All that does not depend on a request is done here, once: a request has a few rows,
        # and for those each operation on a whole column costs more than what it works out.
        coming = pd.read_parquet(parts.features["demand"] / "coming.parquet")
        self.row = {ride: n for n, ride in enumerate(rides(coming))}
        self.model = parts.models["demand"]
        self.features = coming[self.model.metadata.get_input_schema().input_names()]
        self.drivers = {zone["zone"]: zone for zone in parts.tables["zones"].to_pylist()}
        self.config = yaml.safe_load((parts.config["pricing"] / "pricing.yaml").read_text())
        self.message = parts.prompts["rider-message"]
        self.threads = ThreadpoolController()

    def __call__(self, rows: pd.DataFrame) -> Answers:
        return self.price(rows, self.demand(rows))

    def demand(self, rows: pd.DataFrame) -> np.ndarray:
        """Rides per hour that the model expects. ValueError for a row without features."""
        found = self.features.iloc[[self._row(zone, hour) for zone, hour in rides(rows)]]
        # The trees are small: threads of requests side by side would only wait for each other.
        with self.threads.limit(limits=1, user_api="openmp"):
            return np.asarray(self.model.predict(found))

    def price(self, rows: pd.DataFrame, demand: np.ndarray) -> Answers:
        """What the rides cost at some demand."""
        surge = self.surge(rows, demand)
        prices = np.round(self.config["base_fare"] * surge, 2)
        numbers = zip(demand.tolist(), surge.tolist(), prices.tolist(), strict=True)
        return [self._answer(zone, *each) for zone, each in zip(rows["zone"], numbers, strict=True)]

    def surge(self, rows: pd.DataFrame, demand: np.ndarray) -> np.ndarray:
        """The curve at rides wanted for each ride that the drivers can take, up to the cap."""
        at, factor = zip(*self.config["curve"], strict=True)
        drivers = np.array([self._drivers(zone, hour) for zone, hour in rides(rows)])
        pressure = demand / (drivers * self.config["rides_per_driver"])
        surge: np.ndarray = np.minimum(np.interp(pressure, at, factor), self.config["cap"])
        return surge

    def _row(self, zone: str, hour: datetime) -> int:
        if (zone, hour) not in self.row:
            raise ValueError(f"no features for zone {zone!r} at {hour}")
        return self.row[zone, hour]

    def _drivers(self, zone: str, hour: datetime) -> int:
        shift = "drivers_day" if hour.hour in DAY else "drivers_night"
        return int(self.drivers[zone][shift])

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


def rides(rows: pd.DataFrame) -> Iterator[tuple[str, datetime]]:
    """Zone and hour of each row. ValueError for what is not ISO 8601."""
    if missing := {"zone", "hour"} - set(rows.columns):
        raise ValueError(f"each row needs: {', '.join(sorted(missing))}")
    return zip(map(str, rows["zone"]), map(moment, rows["hour"]), strict=True)


def moment(said: Any) -> datetime:
    """A time in UTC, which it is in where it does not say otherwise."""
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        raise ValueError(f"not a time by ISO 8601: {said!r}") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def load(parts: Any) -> Callable[[pd.DataFrame], Answers]:
    """What serves a release."""
    return Pricing(parts)
