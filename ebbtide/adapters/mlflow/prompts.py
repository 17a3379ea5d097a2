"""Which prompt version serves: MLflow's prompt registry and an alias of it.

A pin carries the template itself, so that serving needs no registry.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ebbtide.adapters.handover import hand_over
from ebbtide.adapters.mlflow.registry import Registry, absent_as_none, floating, is_cold, is_version
from ebbtide.adapters.system.file import PromptThing
from ebbtide.core.crashpoints import reach
from ebbtide.core.digests import canonical, digest
from ebbtide.core.errors import NotRestorable, Tampered, Unknown
from ebbtide.core.fencing import still_ours
from ebbtide.core.release import Pin

SAGA_TAG = "ebbtide.saga"


class Prompts:
    """The `prompt` layer of a system.

    MLflow's cached way to load a prompt (an alias may be a minute old there) is
    never used: every reading asks the registry.
    """

    def __init__(
        self, tracking_uri: str, registry_uri: str, things: Mapping[str, PromptThing]
    ) -> None:
        self._registry = Registry(tracking_uri, registry_uri)
        self._things = things

    @property
    def is_cold(self) -> bool:
        """MLflow is not imported in this process yet."""
        return is_cold()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        prompt = self._thing(name).prompt
        with self._registry.calls() as client:
            if ask and not is_version(ask):
                raise floating(prompt, ask, _today(client, prompt, ask))
            found = _version(client, prompt, ask) if ask else _newest(client, prompt)
        if found is None:
            raise Unknown(
                f"The prompt {prompt} has no version {ask}".strip() + " in the registry.",
                remedy="Register it, or choose another version.",
            )
        return _pin(name, found)

    def problems(self, pin: Pin) -> list[str]:
        with self._registry.calls() as client:
            fault = self._fault(client, pin)
        return [fault] if fault else []

    def kept_problems(self, pin: Pin) -> list[str]:
        """Nothing, where the pin carries its template: serving needs no more than that."""
        try:
            template(pin)
        except Tampered as fault:
            return [fault.message]
        return []

    def prepare(self, pin: Pin) -> None:
        """Nothing is to be done aside: the pin carries its template, else `Tampered`."""
        template(pin)

    def live(self, name: str) -> Pin | None:
        with self._registry.calls() as client:
            found = self._aliased(client, name)
        return None if found is None else _pin(name, found)

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Hand the alias over; the version that gets it is tagged with the saga."""
        thing = self._thing(name)

        def show(pin: Pin | None) -> None:
            with self._registry.calls() as client:
                if pin is None:
                    client.delete_prompt_alias(thing.prompt, thing.alias)
                    return
                fault = self._fault(client, pin)
                if fault:
                    raise NotRestorable(fault)
                number = int(pin.at["version"])
                client.set_prompt_version_tag(thing.prompt, number, SAGA_TAG, note)
                reach("prompts.move/tagged")
                still_ours()
                client.set_prompt_alias(thing.prompt, thing.alias, number)

        hand_over(
            f"The alias `{thing.alias}` of the prompt {thing.prompt}",
            to,
            only_from,
            shown=lambda: self._shown(name),
            identity=_identity,
            show=show,
        )

    def template(self, pin: Pin) -> str | list[dict[str, Any]]:
        """The text, or the chat messages, from the pin alone. Raises `Tampered`."""
        return template(pin)

    def _thing(self, name: str) -> PromptThing:
        if name not in self._things:
            raise Unknown(f"No prompt `{name}`.", remedy=f"Known here: {', '.join(self._things)}.")
        return self._things[name]

    def _shown(self, name: str) -> tuple[str, str] | None:
        """The identity alone of what the alias leads to."""
        pin = self.live(name)
        return None if pin is None else _identity(pin)

    def _aliased(self, client: Any, name: str) -> Any:
        thing = self._thing(name)
        return _found(
            lambda: _plainly(client).get_model_version_by_alias(thing.prompt, thing.alias),
            lambda: client.get_prompt_version_by_alias(thing.prompt, thing.alias),
            alias=True,
        )

    def _fault(self, client: Any, pin: Pin) -> str:
        """Why the alias could not show the pin; empty: it could."""
        prompt, number = pin.at["prompt"], pin.at["version"]
        what = f"The prompt {prompt} version {number} ({pin.digest[:10]})"
        if prompt != self._thing(pin.name).prompt:
            return f"{what} is not the prompt that the system file names for `{pin.name}`."
        found = _version(client, prompt, number)
        if found is None:
            return f"{what} was deleted from the registry."
        now = _pin(pin.name, found)
        if now.digest != pin.digest:
            return f"{what} was changed in the registry ({now.digest[:10]} now)."
        return "" if _identity(now) == _identity(pin) else f"{what} was deleted and made anew."


def template(pin: Pin) -> str | list[dict[str, Any]]:
    """The text, or the chat messages, that a prompt's pin carries. Raises `Tampered`."""
    try:
        carried = {
            "template": json.loads(pin.at["template"]),
            "response_format": json.loads(pin.at["response_format"]),
            "model_config": json.loads(pin.at["model_config"]),
        }
    except (KeyError, ValueError) as fault:
        raise Tampered(f"The pin of the prompt `{pin.name}` carries no template.") from fault
    if digest(carried) != pin.digest:
        raise Tampered(f"The pin of the prompt `{pin.name}` carries another template than pinned.")
    found: str | list[dict[str, Any]] = carried["template"]
    return found


def _pin(name: str, found: Any) -> Pin:
    content = {
        "template": found.template,
        "response_format": found.response_format,
        "model_config": found.model_config,
    }
    carried = {part: canonical(value).decode() for part, value in content.items()}
    at = {
        "version": str(found.version),
        "prompt": found.name,
        "created": str(found.creation_timestamp or ""),
        **carried,
    }
    return Pin(name, digest(content), at)


def _identity(pin: Pin) -> tuple[str, str]:
    """The time of creation tells versions of a prompt that was deleted and made anew."""
    return (pin.at.get("version", ""), pin.at.get("created", ""))


def _version(client: Any, prompt: str, number: str) -> Any:
    return _found(
        lambda: _plainly(client).get_model_version(prompt, number),
        lambda: client.get_prompt_version(prompt, number),
    )


def _found(
    as_model: Callable[[], Any], as_prompt: Callable[[], Any], *, alias: bool = False
) -> Any:
    """A prompt's version; None where there is none.

    Most registries keep a prompt's versions as model versions, and read as such
    they cost a third; one that does not is asked for the prompt.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.prompt.registry_utils import has_prompt_tag, model_version_to_prompt_version

    try:
        found = as_model()
    except MlflowException:
        found = None
    if found is not None and has_prompt_tag(found.tags):
        return model_version_to_prompt_version(found)
    return absent_as_none(as_prompt, alias=alias)


def _plainly(client: Any) -> Any:
    """The registry itself: the client in front of it hides that a prompt is a model."""
    return client._get_registry_client()  # noqa: SLF001 - no public way


def _newest(client: Any, prompt: str) -> Any:
    found = absent_as_none(lambda: client.search_prompt_versions(prompt, max_results=1))
    return found[0] if found else None


def _today(client: Any, prompt: str, ask: str) -> str:
    name = ask.removeprefix("@")
    found = _newest(client, prompt) if name.lower() == "latest" else None
    if found is None and name.lower() != "latest":
        found = absent_as_none(lambda: client.get_prompt_version_by_alias(prompt, name), alias=True)
    return str(found.version) if found else ""
