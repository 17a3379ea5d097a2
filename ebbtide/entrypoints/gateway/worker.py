"""One worker of several: `python -m ebbtide.entrypoints.gateway.worker`, by the supervisor only."""

import sys
from pathlib import Path

from ebbtide.core.errors import EbbtideError


def main(
    system: str, systems: str, host: str, name: str, url: str, shared_port: str, pipe: str
) -> None:
    from ebbtide.adapters.system.file import find_system
    from ebbtide.bootstrap import world_of
    from ebbtide.entrypoints.gateway.server import serve

    file = find_system(system, Path(systems))
    serve(
        file,
        world_of(file),
        host,
        0,
        name,
        url=url,
        shared_port=int(shared_port),
        until_closed=int(pipe),
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EbbtideError as fault:
        sys.stderr.write(f"ebbtide: {fault}\n")
        sys.exit(fault.exit_code)
