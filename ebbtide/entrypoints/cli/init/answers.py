"""From what was found, and what a person says, to the values of a system file.

A flag is an answer. What is neither found nor said is asked; where nobody is to
be asked the default is taken, and a question without a safe default is refused.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.core.errors import Refused
from ebbtide.entrypoints.cli.init import making
from ebbtide.entrypoints.cli.init.asking import NONE, Asker

if TYPE_CHECKING:
    from ebbtide.adapters.discovery.places import Discovery
    from ebbtide.adapters.discovery.repository import Out, Versioned
    from ebbtide.adapters.discovery.stores import Named

_NAMED = re.compile(r"([a-z0-9][a-z0-9-]{0,62})=(.+)")
_ROLES = ("training", "reference", NONE)


@dataclass(frozen=True, slots=True)
class Flags:
    """What was said on the command line; empty: nothing. `none` leaves a kind out."""

    models: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    serving: str = ""
    golden: str = ""
    redis: str = ""
    port: int = -1


def slug(text: str) -> str:
    """A name as system files take them."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")
    return plain or "main"


def values(name: str, root: str, found: "Discovery", flags: Flags, asker: Asker) -> dict[str, Any]:
    """The values of the system file, in no order. Raises `Refused` for a bad or missing answer."""
    return _Values(found, flags, asker).all(name, root)


@dataclass
class _Values:
    found: "Discovery"
    flags: Flags
    asker: Asker
    links: set[str] = field(default_factory=set)

    def all(self, name: str, root: str) -> dict[str, Any]:
        serving, infra = self.serving()
        layers = {
            "model": self.models(),
            "features": self.features(),
            "data": self.data(),
            "config": self.config(),
            "prompt": self.prompts(),
            "infra": infra,
        }
        making.add(layers, self.found, self.asker)
        layers = {layer: things for layer, things in layers.items() if things}
        registry = self.found.registry
        data: dict[str, Any] = {"system": name, "root": root, "layers": layers}
        if registry and (not registry.problem or "model" in layers or "prompt" in layers):
            data["mlflow"] = {"tracking_uri": registry.tracking_uri}
            if registry.registry_uri:
                data["mlflow"]["registry_uri"] = registry.registry_uri
        if self.flags.port >= 0:
            serving["port"] = self.flags.port
        cache = self.found.cache
        parts = {
            "serving": serving,
            "golden": self.golden(),
            "outputs": self.outputs(),
            "cache": {"url": cache.url} if cache else {},
        }
        return data | {part: keys for part, keys in parts.items() if keys}

    def models(self) -> dict[str, Any]:
        registry = self.found.registry
        known = registry.models if registry else ()
        return self._registered("model", "registered_model", "champion", self.flags.models, known)

    def prompts(self) -> dict[str, Any]:
        registry = self.found.registry
        known = registry.prompts if registry else ()
        return self._registered("prompt", "prompt", "production", self.flags.prompts, known)

    def _registered(
        self, kind: str, key: str, alias: str, said: Sequence[str], known: Sequence["Named"]
    ) -> dict[str, Any]:
        """Things of MLflow. All of a registry of one's own; of a shared one only what is named:

        a rollback moves their aliases, and others' things are not this system's to move.
        """
        flag = f"Say --{kind} NAME, or --{kind} none."
        names = list(said)
        if names == [NONE]:
            return {}
        if names and self.found.registry is None:
            raise Refused(f"`--{kind}` needs an MLflow.", remedy="Say where it is: --mlflow URI.")
        if not names and known:
            all_of = [each.name for each in known]
            one_choice = len(all_of) == 1 or (self.found.registry and self.found.registry.is_own)
            names = all_of if one_choice else self._of_a_shared(kind, all_of, flag)
        elif not names and kind == "model" and self.found.registry:
            name = self.asker.one("Name of the registered model (none is seen yet)", NONE, flag)
            names = [] if name == NONE else [name]
        things: dict[str, Any] = {}
        for text in names:
            thing, name = _spec(text)
            name, _, wanted = name.partition("@")
            aliases = next((each.aliases for each in known if each.name == name), ())
            _add(
                things,
                thing or slug(name),
                {key: name, "alias": wanted or self._alias(name, aliases, alias)},
            )
        return things

    def _of_a_shared(self, kind: str, names: Sequence[str], flag: str) -> list[str]:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        return self.asker.some(f"Which {kind}s belong to the system ({shown})", names, None, flag)

    def _alias(self, name: str, aliases: Sequence[str], usual: str) -> str:
        """The usual alias, also where none is set yet; the only one where it is another."""
        if usual in aliases or not aliases:
            return usual
        if len(aliases) == 1:
            return aliases[0]
        question = f"Alias of {name} that serving goes by ({', '.join(aliases)})"
        return self.asker.one(question, None, f"Say --model {name}@ALIAS.")

    def features(self) -> dict[str, Any]:
        things: dict[str, Any] = {}
        for thing, out in self._outs():
            last = out.path.rpartition("/")[2]
            keys = {"repository": out.repository, "out": out.path, "link": self._link(last)}
            _add(things, thing or slug(last), keys)
        return things

    def _outs(self) -> list[tuple[str, "Out"]]:
        from ebbtide.adapters.discovery.repository import likely_features

        said = self.flags.features
        if said:
            return [self._out(text) for text in said if text != NONE]
        likely = likely_features(self.found.outs)
        sure = [out for out in likely if out.parquet or "feature" in f"{out.path}{out.stage}"]
        if len(sure) == 1 or not likely:
            return [("", out) for out in sure]
        paths = [out.path for out in likely]
        question = f"Which output has the features ({', '.join(paths)}, {NONE})"
        flag = "Say --features OUT, or --features none."
        path = self.asker.one(question, None if sure else NONE, flag, [*paths, NONE])
        return [("", out) for out in likely if out.path == path]

    def _out(self, text: str) -> tuple[str, "Out"]:
        """An output that was named: as the pipeline has it, or not made by it yet."""
        from ebbtide.adapters.discovery.repository import Out, relative

        thing, path = _spec(text)
        place = self._place(path)
        for out in self.found.outs:
            if place == relative(self.found.root / out.repository / out.path, self.found.root):
                return thing, out
        raise_if_outside(place, "features")
        known = {out.repository for out in self.found.outs} or {"."}
        home = next((each for each in sorted(known) if _is_below(place, each)), ".")
        inner = place if home == "." else place.removeprefix(f"{home}/")
        return thing, Out(home, inner, "", is_folder=True, parquet=0)

    def data(self) -> dict[str, Any]:
        said = dict(self._table(text) for text in self.flags.tables if text != NONE)
        things: dict[str, Any] = {}
        found = [] if self.flags.tables == (NONE,) else self.found.tables
        paths = [table.path for table in found if not (table.is_log or table.is_output)]
        guesses = {table.path: self.found.is_read_live(table) for table in found}
        for path in [*paths, *(path for path in said if path not in paths)]:
            thing, role = said.get(path, ("", ""))
            guess = "reference" if guesses.get(path) else "training"
            role = role or self._role(path, guess)
            if role != NONE:
                name = thing or slug(path.rstrip("/").rpartition("/")[2])
                _add(things, name, {"path": path, "role": role})
        return things

    def outputs(self) -> dict[str, Any]:
        """The tables that jobs have written through `ebbtide.outputs`."""
        things: dict[str, Any] = {}
        for table in self.found.tables:
            if table.is_output:
                _add(things, slug(table.path.rstrip("/").rpartition("/")[2]), {"path": table.path})
        return things

    def _role(self, path: str, guess: str) -> str:
        question = f"Table {path}: training (lineage), reference (read live by serving) or none"
        return self.asker.one(question, guess, "", _ROLES)

    def _table(self, text: str) -> tuple[str, tuple[str, str]]:
        path, equals, role = text.rpartition("=")
        if not equals or role not in _ROLES:
            raise Refused(f"`--table {text}` is not PATH=ROLE.", remedy=f"Roles: {_ROLES}.")
        thing, path = _spec(path)
        return path if "://" in path else self._place(path), (thing, role)

    def config(self) -> dict[str, Any]:
        said = self.flags.config
        if said:
            chosen = [self._folder(text, "config") for text in said if text != NONE]
        else:
            by_path = {_shown(each): each for each in self.found.config}
            names = list(by_path)
            if len(names) > 1:
                question = f"Which folders of configuration ({', '.join(names)}, {NONE})"
                names = self.asker.some(question, names, names, "Say --config PATH.")
            chosen = [("", by_path[name]) for name in names]
        things: dict[str, Any] = {}
        for thing, folder in chosen:
            self._add_folder(things, thing, folder)
        return things

    def serving(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The part `serving`, and the layer `infra` with its code."""
        log = next((table.path for table in self.found.tables if table.is_log), "")
        part: dict[str, Any] = {"log": log} if log else {}
        said, seen = self.flags.serving, self.found.serving[:1]
        if said == NONE or not (said or seen):
            return part, {}
        thing, folder = self._folder(said, "serving") if said else ("", seen[0])
        things: dict[str, Any] = {}
        name = self._add_folder(things, thing, folder)
        if folder.handler:
            part["handler"] = f"infra/{name}/{folder.handler}"
        return part, things

    def _folder(self, text: str, flag: str) -> tuple[str, "Versioned"]:
        """A folder that was named. For serving also a file: the handler in its folder."""
        from ebbtide.adapters.discovery.repository import versioned

        thing, path = _spec(text)
        place = self.found.root / self._place(path)
        is_file = flag == "serving" and (place.is_file() or place.suffix == ".py")
        folder = place.parent if is_file else place
        found = versioned(folder, self.found.root, place.name if is_file else "")
        if found is None:
            raise Refused(
                f"`--{flag} {path}` lies in no git repository, so it has no versions.",
                remedy="Run `git init` there and commit it, or name another folder.",
            )
        return thing, found

    def _add_folder(self, things: dict[str, Any], thing: str, folder: "Versioned") -> str:
        last = _shown(folder).rpartition("/")[2].strip(".")
        keys = {"repository": folder.repository, "path": folder.path}
        name = thing or slug(last)
        return _add(things, name, keys | {"link": self._link(last or name)})

    def golden(self) -> dict[str, Any]:
        said = self.flags.golden
        if said == NONE or not (said or self.found.golden):
            return {}
        path = self._place(said) if said else self.found.golden[0].questions
        if not (self.found.root / path).is_file():
            raise Refused(f"The golden set {path} is not there.", remedy="Write it, or leave it.")
        smoke = next((each.smoke for each in self.found.golden if each.questions == path), "")
        return {"questions": path} | ({"smoke": smoke} if smoke else {})

    def _place(self, path: str) -> str:
        """A path that was said, as the system file has it: relative to the root."""
        from ebbtide.adapters.discovery.repository import relative

        place = self.found.root / path
        inside = place.resolve().is_relative_to(self.found.root)
        return relative(place, self.found.root) if inside or not path.startswith("/") else path

    def _link(self, name: str) -> str:
        numbers = (f"live/{name}" if n == 1 else f"live/{name}-{n}" for n in range(1, 1000))
        link = next(each for each in numbers if each not in self.links)
        self.links.add(link)
        return link


def raise_if_outside(place: str, flag: str) -> None:
    if place.startswith(("../", "/")):
        raise Refused(f"`--{flag} {place}` is not below the root.", remedy="Say --root DIR.")


def _shown(folder: "Versioned") -> str:
    return str(Path(folder.repository) / folder.path)


def _is_below(place: str, folder: str) -> bool:
    return folder != "." and place.startswith(f"{folder}/")


def _spec(text: str) -> tuple[str, str]:
    """`[THING=]WHAT` as typed."""
    named = _NAMED.fullmatch(text)
    return (named[1], named[2]) if named else ("", text)


def _add(things: dict[str, Any], name: str, keys: Mapping[str, Any]) -> str:
    """Under its name, or the name with a number where that is taken; the name it got."""
    free: Iterable[str] = (name if n == 1 else f"{name[:59]}-{n}" for n in range(1, 1000))
    got = next(each for each in free if each not in things)
    things[got] = dict(keys)
    return got
