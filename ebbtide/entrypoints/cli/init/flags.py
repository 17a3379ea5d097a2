"""What `ebbtide init` can be told, with the words that explain it."""

from pathlib import Path
from typing import Annotated

import typer

_Many = list[str] | None
HERE = Path()

Name = Annotated[str, typer.Argument(help="The system's name; default: the folder's.")]
Mlflow = Annotated[
    str, typer.Option(help="Tracking URI; default: MLFLOW_TRACKING_URI, or mlflow.db here.")
]
Models = Annotated[_Many, typer.Option(metavar="[THING=]NAME[@ALIAS]", help="A registered model.")]
Features = Annotated[_Many, typer.Option(metavar="[THING=]OUT", help="A DVC output with features.")]
Tables = Annotated[
    _Many,
    typer.Option(
        metavar="[THING=]PATH=ROLE",
        help="A Delta table and its role: training, reference, or none.",
    ),
]
Look = Annotated[
    _Many, typer.Option(metavar="PLACE", help="A folder or s3://... with Delta tables below.")
]
Config = Annotated[
    _Many, typer.Option(metavar="[THING=]PATH", help="A folder of configuration in git.")
]
Prompts = Annotated[
    _Many, typer.Option(metavar="[THING=]NAME[@ALIAS]", help="A prompt in MLflow's registry.")
]
Serving = Annotated[
    str,
    typer.Option(
        metavar="[THING=]PATH[/HANDLER]", help="A folder of serving code, or its handler file."
    ),
]
Golden = Annotated[
    str, typer.Option(metavar="FILE", help="Rows as clients send them, as JSON Lines.")
]
Redis = Annotated[
    str, typer.Option(metavar="URL", help="The cache; default: REDIS_URL, or this disk.")
]
Port = Annotated[int, typer.Option(help="The gateway's port; default: 5001.", show_default=False)]
Root = Annotated[Path, typer.Option(help="Where to look; paths start here.")]
Output = Annotated[
    Path | None,
    typer.Option(help="The file to write; default: ROOT/configs/systems/NAME.yaml."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file; keeps a backup.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take defaults.")]
