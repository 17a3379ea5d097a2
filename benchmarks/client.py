"""An HTTP client that asks as fast as it is answered, over connections that it keeps.

A process of its own, so that it shares no interpreter with what it measures. It
checks that each response is a 200 with one prediction, and prints JSON: how many
were answered in the time, how many not, and how long each took.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import count

_TIMEOUT = 30.0
COLUMNS = 8


def body(n: int) -> bytes:
    """Request number n: one row of figures from 0 to 1,000, but x0 is what no other number has."""
    row = {f"x{at}": (n * 7919 + at * 104_729) % 1_000_003 / 1e3 for at in range(COLUMNS)}
    return json.dumps({"dataframe_records": [{**row, "x0": n / 1e3}]}).encode()


def numbers(start: int, pool: int) -> Iterator[int]:
    """Which requests are asked: all different, or over and over the first `pool`."""
    return (start + n % pool for n in count()) if pool else count(start)


async def ask(host: str, port: int, which: Iterator[int], until: float) -> tuple[list[float], int]:
    """One connection: seconds of each request, and how many were not answered right."""
    reader, writer = await asyncio.open_connection(host, port)
    seconds, wrong = [], 0
    head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    try:
        while time.perf_counter() < until:
            sent = body(next(which))
            began = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            status, content = await asyncio.wait_for(_response(reader), _TIMEOUT)
            seconds.append(time.perf_counter() - began)
            wrong += status != 200 or not _is_one(content)
    finally:
        writer.close()
    return seconds, wrong


async def _response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next(line for line in head if line.lower().startswith("content-length:"))
    content = await reader.readexactly(int(length.partition(":")[2]))
    return int(head[0].split()[1]), content


def _is_one(content: bytes) -> bool:
    try:
        return len(json.loads(content)["predictions"]) == 1
    except (ValueError, KeyError, TypeError):
        return False


async def _all(options: argparse.Namespace) -> dict[str, object]:
    which = numbers(options.start, options.pool)
    began = time.perf_counter()
    asking = (
        ask(options.host, options.port, which, began + options.seconds)
        for _ in range(options.connections)
    )
    found = await asyncio.gather(*asking)
    seconds = [each for times, _ in found for each in times]
    return {
        "seconds": seconds,
        "wrong": sum(wrong for _, wrong in found),
        "elapsed": time.perf_counter() - began,
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--start", type=int, default=0, help="number of the first request")
    parser.add_argument("--pool", type=int, default=0, help="different requests; 0: all different")
    json.dump(asyncio.run(_all(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    _main()
