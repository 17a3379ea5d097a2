"""Demand features by zone and hour: the history to train on, the coming week to price.

hour_of_day, day_of_week, zone_code
rain_mm            millimetres, mean of what was observed within 40 minutes
visitors           thousands who leave an event in the zone
rides_last_week    the same hour a week ago, in rides per hour
rides_usual        the same hour, mean of the last four weeks, likewise
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SLOT = pd.Timedelta(minutes=15)
WEEK = pd.Timedelta(days=7)
NEAR = pd.Timedelta(minutes=40)


def hourly(rides: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Rides and rain by zone and hour. Each count goes by all observations near it."""
    counts = rides.assign(middle=rides["slot"] + SLOT / 2, hour=rides["slot"].dt.floor("h"))
    seen = counts.merge(observations_by_hour(weather), on="hour")
    near = (seen["middle"] - seen["observed_at"]).abs() <= NEAR
    grouped = seen[near].groupby(["zone", "hour"], as_index=False)
    return grouped.agg(rides=("rides", "sum"), rain_mm=("rain_mm", "mean"))


def observations_by_hour(weather: pd.DataFrame) -> pd.DataFrame:
    """Each observation under its own hour and under the hours before and after."""
    hour = weather["observed_at"].dt.floor("h")
    shifts = (pd.Timedelta(hours=shift) for shift in (-1, 0, 1))
    return pd.concat([weather.assign(hour=hour + shift) for shift in shifts])


def with_coming_week(rides: pd.DataFrame) -> pd.DataFrame:
    """Add the slots of the week after the last count, with nothing counted yet."""
    last = rides["slot"].max()
    slots = pd.date_range(last + SLOT, last + WEEK, freq=SLOT, name="slot")
    grid = pd.MultiIndex.from_product([sorted(rides["zone"].unique()), slots], names=["zone", None])
    coming = grid.to_frame(index=False, name=["zone", "slot"]).assign(rides=0)
    return pd.concat([rides, coming], ignore_index=True)


def features(rides: pd.DataFrame, weather: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """One row for each zone and hour, sorted by hour and zone."""
    frame = hourly(with_coming_week(rides), weather)
    frame["hour_of_day"] = frame["hour"].dt.hour
    frame["day_of_week"] = frame["hour"].dt.dayofweek
    frame["zone_code"] = frame["zone"].rank(method="dense") - 1
    frame["visitors"] = visitors(frame, events)
    frame["rides_last_week"] = weeks_ago(frame, 1)
    frame["rides_usual"] = sum(weeks_ago(frame, weeks) for weeks in (1, 2, 3, 4)) / 4
    return frame.sort_values(["hour", "zone"], ignore_index=True)


def visitors(frame: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """Thousands of visitors of the event that a zone has in an hour, else 0."""
    there = pd.Series(0.0, index=frame.index)
    for event in events.itertuples():
        end = event.start + pd.Timedelta(hours=event.hours)
        there[(frame["zone"] == event.zone) & frame["hour"].between(event.start, end, "left")] = (
            event.visitors
        )
    return there


def weeks_ago(frame: pd.DataFrame, weeks: int) -> pd.Series:
    """The rides of the same zone and hour some weeks ago; missing in the first weeks."""
    then = frame[["zone", "hour", "rides"]].assign(hour=frame["hour"] + weeks * WEEK)
    return frame[["zone", "hour"]].merge(then, how="left", on=["zone", "hour"])["rides"]


def write(frame: pd.DataFrame, to: Path) -> None:
    """Parquet without pandas' own metadata: the same features are the same bytes."""
    numbers = frame.columns.difference(["zone", "hour"])
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, to)


if __name__ == "__main__":
    counted = pd.read_parquet("data/rides.parquet")
    made = features(
        counted,
        pd.read_parquet("data/weather.parquet"),
        pd.read_csv("calendar/events.csv", parse_dates=["start"]),
    )
    coming = made["hour"] > counted["slot"].max()
    out = Path("data/features")
    out.mkdir(parents=True, exist_ok=True)
    write(made[~coming].dropna(), out / "history.parquet")
    write(made[coming].drop(columns="rides"), out / "coming.parquet")
