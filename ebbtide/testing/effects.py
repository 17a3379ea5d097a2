"""Where a fake system's effects go: they are only counted."""

from collections.abc import Mapping

from ebbtide.core.effects import Effect, Ended, Receiver, Sent


class FakeReceivers:
    """Takes every effect, unless it is told not to."""

    def __init__(self, *kinds: str) -> None:
        self.taken: list[Effect] = []
        """Every attempt that was taken, in its order."""
        self.answers: dict[str, Sent] = {}
        """How attempts end in place of that, by key."""
        self._kinds = kinds or ("mail", "price", "ticket")

    @property
    def told(self) -> Mapping[str, Receiver]:
        return dict.fromkeys(self._kinds, Receiver())

    def send(self, effect: Effect) -> Sent:
        if effect.key in self.answers:
            return self.answers[effect.key]
        self.taken.append(effect)
        return Sent(Ended.TAKEN, "taken", answer="{}")
