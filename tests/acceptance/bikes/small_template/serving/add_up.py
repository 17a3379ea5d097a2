"""Who rents: two models side by side, and their sum."""

from collections.abc import Callable
from typing import Any

import pandas as pd


def load(parts: Any) -> Callable[[pd.DataFrame], list[dict[str, float]]]:
    """Answers the rows that both models were trained on."""
    casual, registered = parts.models["casual"], parts.models["registered"]

    def answer(rows: pd.DataFrame) -> list[dict[str, float]]:
        pairs = zip(casual.predict(rows), registered.predict(rows), strict=True)
        return [
            {"casual": float(one), "registered": float(other), "rentals": float(one + other)}
            for one, other in pairs
        ]

    return answer
