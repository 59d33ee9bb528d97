"""The engine's view of the periodic probes."""

from __future__ import annotations

from spinyard.core.ids import Uid
from spinyard.core.observed import LookWatch, ProbeAnswer, ProbeResult
from spinyard.probes import LivenessWatch, WatchPurpose


class EngineWatch:
    """The engine's view of the periodic probes."""

    def __init__(self, watch: LivenessWatch) -> None:
        self._watch = watch
        self._kept: dict[str, frozenset[LookWatch]] = {}

    def answer(self, uid: str, look: LookWatch) -> ProbeResult:
        purpose = WatchPurpose(look.purpose)
        verdict = self._watch.verdict(Uid(uid), purpose)
        return ProbeResult(ProbeAnswer(verdict.value), self._watch.message(Uid(uid), purpose))

    def keep(self, uid: str, looks: frozenset[LookWatch]) -> None:
        before = self._kept.get(uid, frozenset())
        if looks == before:
            return
        for look in before - looks:
            self._watch.remove(Uid(uid), WatchPurpose(look.purpose))
        for look in looks - before:
            self._watch.add(Uid(uid), WatchPurpose(look.purpose), look.process, look.address, look.ports, look.probe)
        if looks:
            self._kept[uid] = looks
        else:
            self._kept.pop(uid, None)
