"""Methods that are recorded answer as before, whatever is asked of them; with a stand-in for CUDA's part."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from vivant.engines.liveportrait.config import tiny_published
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.personalive.config import tiny as tiny_personalive
from vivant.engines.personalive.engine import PersonaLive
from vivant.runtime import graphs


@dataclass(frozen=True)
class Seen:
    points: Tensor
    name: str


class Networks(nn.Module):
    def see(self, pictures: tuple[Tensor, ...], scale: float, *, other: Seen | None = None) -> Seen:
        total = sum(picture.sum() for picture in pictures) * scale
        return Seen(total if other is None else total + other.points, "seen")


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    made: list[Callable[[], object]] = []

    def recorded(work: Callable[[], object], pool: object) -> Callable[[], None]:
        work()
        made.append(work)

        def play() -> None:
            # A graph writes its own results anew; here they are made anew, so they are copied where the first ones are.
            results = next(c.cell_contents for c in work.__closure__ if isinstance(c.cell_contents, list))  # type: ignore[attr-defined]
            kept = results[0]
            work()
            (now,) = results
            results[:] = [kept]
            for place, tensor in zip(graphs._tensors(kept), graphs._tensors(now), strict=True):
                place.copy_(tensor)

        return play

    monkeypatch.setattr(graphs, "recorded", recorded)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    return made


def test_each_set_of_sizes_has_its_recording(recordings: list[Callable[[], object]]) -> None:
    plain, networks = Networks(), Networks()
    graphs.record_methods(networks, ["see"])
    one, two = (torch.rand(2), torch.rand(3)), (torch.rand(3), torch.rand(2))
    other = Seen(torch.rand(()), "other")
    first = networks.see(one, 2.0)
    for given in ((one, 2.0), (two, 2.0), (one, 3.0), (one, 2.0)):
        for more in ({}, {"other": other}):
            assert torch.equal(networks.see(*given, **more).points, plain.see(*given, **more).points)
    assert len(recordings) == 6, "two sizes, one of them with two scales, each with another and without"
    networks.see((torch.rand(2), torch.rand(3)), 2.0)
    assert torch.equal(first.points, plain.see(one, 2.0).points), "what was answered stays as it was"


def test_what_is_given_again_is_read_again_if_it_changed(recordings: list[Callable[[], object]]) -> None:
    networks, copied = Networks(), []
    graphs.record_methods(networks, ["see"], remembers=True)
    picture, other = torch.ones(2), torch.full((2,), 5.0)

    def seen(given: Tensor) -> float:
        place = networks.see.__kwdefaults__["kept"].kept  # type: ignore[attr-defined]
        before = [own.tensor._version for places, _, _ in place.values() for own in places]
        answer = float(networks.see((given,), 1.0).points)
        after = [own.tensor._version for places, _, _ in place.values() for own in places]
        copied.append(before != after)
        return answer

    assert [seen(picture), seen(picture)] == [2.0, 2.0]
    picture.add_(1)
    assert [seen(picture), seen(other), seen(picture), seen(picture)] == [4.0, 10.0, 4.0, 4.0]
    assert copied == [True, False, True, True, True, False]
    with torch.inference_mode():
        uncounted = torch.ones(2)
        assert seen(uncounted) == 2.0
        uncounted.add_(1)
        assert seen(uncounted) == 4.0


def test_few_recordings_are_kept(recordings: list[Callable[[], object]]) -> None:
    networks = Networks()
    graphs.record_methods(networks, ["see"])
    for size in range(1, 2 * graphs.KEPT):
        networks.see((torch.rand(size),), 1.0)
    before = len(recordings)
    networks.see((torch.rand(2 * graphs.KEPT - 1),), 1.0)
    assert len(recordings) == before
    networks.see((torch.rand(1),), 1.0)
    assert len(recordings) == before + 1


def test_threads_do_not_mix_their_answers(recordings: list[Callable[[], object]]) -> None:
    networks = Networks()
    graphs.record_methods(networks, ["see"])
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda number: networks.see((torch.full((4,), float(number)),), 1.0), range(200))
        assert [float(answer.points) for answer in answers] == [4.0 * number for number in range(200)]


def test_a_recorded_liveportrait_draws_the_same(recordings: list[Callable[[], object]]) -> None:
    torch.manual_seed(0)
    frames, drawn = torch.rand(3, 3, 64, 64), []
    networks = LivePortrait.build_networks(tiny_published())
    for records in (False, True):
        engine = LivePortrait(tiny_published(), networks)
        if records:
            engine.record()
        state = engine.start(
            engine.prepare(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)), face=None)
        )
        drawn.append(torch.cat([engine.step(state, frame[None]) for frame in frames]))
    assert torch.equal(*drawn)
    assert len(recordings) >= 2


def test_a_recorded_personalive_draws_the_same(recordings: list[Callable[[], object]]) -> None:
    torch.manual_seed(0)
    config = tiny_personalive()
    networks, drawn = PersonaLive.build_networks(config), []
    frames = torch.rand(4 * config.chunk_frames, 3, 64, 64).split(config.chunk_frames)
    picture = torch.rand(3, 64, 64)
    for records in (False, True):
        engine = PersonaLive(config, networks)
        if records:
            engine.record()
        state = engine.start(engine.prepare(picture, face=None))
        drawn.append(torch.cat([engine.step(state, chunk) for chunk in frames]))
    assert torch.equal(*drawn)
    assert len(drawn[0])
    assert len(recordings) >= 4
