"""Live streams in virtual time: no test sleeps, and the clock moves only when the make-believe engine draws."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vivant.drivers import Follower, Seen
from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.live.latency import LatencyContract, LatencyMeter, Level, check_promise, levels
from vivant.live.stream import LiveSettings, LiveStream


@dataclass(frozen=True)
class Options:
    gain: float = 1.0


class Clock:
    """Time that moves when told, and wakes a camera while it does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: Callable[[float], None] | None = None

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.due is not None:
            self.due(self.now)


class Slow(Engine[None, Options, Tensor, Portrait, State]):
    """Draws the mean of the driving frame, and takes its time."""

    family = "slow"
    config_type, options_type, state_type = type(None), Options, State
    network_methods = ()
    crop_size_px = 4
    stream = StreamSpec(driving="video", chunk_frames=1, delay_frames=0, frame_rate_hz=None)

    def __init__(self, clock: Clock, cost: Callable[[], float]) -> None:
        super().__init__(None, nn.Linear(1, 1))
        self.clock, self.cost = clock, cost

    @staticmethod
    def build_networks(config: None) -> nn.Module:
        return nn.Linear(1, 1)

    @staticmethod
    def tiny_configs() -> Mapping[str, None]:
        return {"slow": None}

    def frame_size(self, portrait: Portrait) -> tuple[int, int]:
        return 32, 32

    def encode_reference(self, reference: Tensor) -> Portrait:
        return Portrait()

    def start(self, portrait: Portrait, options: Options | None = None, seed: int = 0) -> State:
        return State(portrait=portrait, options=options or Options(), generator=torch.Generator())

    def encode_motion(self, state: State, driving: Tensor) -> Tensor:
        return driving.mean((1, 2, 3))

    def render(self, state: State, motion: Tensor) -> Tensor:
        self.clock.advance(self.cost())
        return (motion * state.options.gain).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)

    def flush(self, state: State) -> Tensor:
        return torch.zeros(0, 3, 32, 32)


class Late(Slow):
    """Answers four frames at once, twelve frames later; the last ones when it is flushed."""

    stream = StreamSpec(driving="video", chunk_frames=4, delay_frames=12, frame_rate_hz=None)

    def start(self, portrait: Portrait, options: Options | None = None, seed: int = 0) -> State:
        state = super().start(portrait, options, seed)
        state.owed = torch.zeros(0)  # type: ignore[attr-defined]
        return state

    def render(self, state: Any, motion: Tensor) -> Tensor:
        state.owed = torch.cat([state.owed, motion])
        due = state.owed[: max(0, len(state.owed) - 12)]
        state.owed = state.owed[len(due) :]
        return super().render(state, due)

    def flush(self, state: Any) -> Tensor:
        return super().render(state, state.owed)


class Camera:
    """Frames at a fixed rate of virtual time, offered the moment they are due."""

    def __init__(self, clock: Clock, stream: LiveStream, rate_hz: float) -> None:
        self.stream, self.rate_hz, self.num_frames = stream, rate_hz, 0
        clock.due = self.catch_up

    def catch_up(self, now: float) -> None:
        while self.num_frames / self.rate_hz <= now:
            image = np.full((4, 4, 3), self.num_frames % 256, np.uint8)
            self.stream.offer(image, self.num_frames / self.rate_hz)
            self.num_frames += 1


def live(cost: Callable[[], float], rate_hz: float = 60.0, **given: Any) -> tuple[Clock, LiveStream, Camera]:
    clock = Clock()
    settings = LiveSettings(rate_hz=rate_hz, driving_face=None, **given)
    engine = Slow(clock, cost)
    stream = LiveStream(engine, Portrait(references=torch.zeros(1, 3, 4, 4)), None, settings, clock)
    return clock, stream, Camera(clock, stream, rate_hz)


def run(clock: Clock, stream: LiveStream, until: float) -> list[float]:
    """Step until that time; the latency of each picture, as the viewer reports it."""
    latencies = []
    while clock.now < until:
        shown = stream.step()
        if not shown:
            clock.advance(0.001)
        for picture in shown:
            latencies.append(clock.now - picture.captured_seconds)
            stream.viewed(latencies[-1])
    return latencies


def test_ten_minutes_at_six_times_too_many_frames_stay_flat() -> None:
    clock, stream, camera = live(lambda: 0.1, max_latency_ms=300)
    first = run(clock, stream, 60.0)
    gc.collect()
    tracemalloc.start()
    between = run(clock, stream, 540.0)
    last = run(clock, stream, 600.0)
    del between
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # A picture waits for less than one drawing and is drawn: 0.1 to 0.2 s, in the tenth minute as in the first.
    assert max(last) <= max(first) + 1e-9 <= 0.2 + 0.02
    assert np.median(last) == pytest.approx(np.median(first), abs=0.01)
    assert grown < 200_000
    counts = stream.counts
    assert counts.offered == camera.num_frames >= 36_000
    assert counts.offered == counts.shown + counts.paced + counts.replaced + (not stream.has_room)
    assert counts.replaced + counts.paced > 29_000
    assert stream.contract.kept


def test_a_promise_is_kept_by_rate_then_by_size_and_called_off_last() -> None:
    seconds = {"cost": 0.02}
    clock, stream, _ = live(lambda: seconds["cost"], rate_hz=30, max_latency_ms=100, side_px=640)
    run(clock, stream, 5.0)
    assert stream.level == Level(30, 640)
    seen: list[Level] = []
    seconds["cost"] = 0.11
    while clock.now < 60.0 and stream.contract.kept:
        run(clock, stream, clock.now + 0.1)
        if not seen or seen[-1] != stream.level:
            seen.append(stream.level)
    assert not stream.contract.kept
    assert seen == sorted(seen, key=lambda level: (-level.side_px, -level.rate_hz))
    assert seen[-1] == levels(30, 640)[-1]
    seconds["cost"] = 0.02  # the neighbours are gone: everything comes back
    run(clock, stream, 300.0)
    assert stream.contract.kept
    assert stream.level == Level(30, 640)


def test_a_level_that_proved_too_much_is_tried_ever_more_rarely() -> None:
    contract = LatencyContract(0.1, (Level(30, 640), Level(10, 640)))
    changes, now = 0, 0.0
    while now < 1200:
        now += 1 / contract.level.rate_hz
        changes += contract.observe(0.2 if contract.level.rate_hz == 30 else 0.05, now)
    assert changes <= 22  # down at once, then tries after 10, 20, 40, 80 and 160, 160 ... seconds


def shares_of_levels(late_share: float) -> dict[Level, float]:
    """Of five minutes in which that share of all pictures is late, whatever the rate."""
    contract = LatencyContract(0.2, levels(25, 512))
    random = np.random.default_rng(0)
    now, seconds = 0.0, dict.fromkeys(levels(25, 512), 0.0)
    while now < 300:
        interval = 1 / contract.level.rate_hz
        now += interval
        seconds[contract.level] += interval
        contract.observe(0.3 if random.random() < late_share else 0.16, now)
    return {level: part / now for level, part in seconds.items()}


def test_single_late_pictures_of_a_busy_machine_cost_no_rate_while_the_promise_holds() -> None:
    best, *_, least = levels(25, 512)
    assert shares_of_levels(0.03)[best] > 0.9
    assert shares_of_levels(0.3)[least] > 0.5


def test_a_cold_start_costs_no_rate() -> None:
    contract, now = LatencyContract(0.2, levels(25, 512)), 0.0
    while now < 10:
        now += 0.04
        contract.observe(1.5 - now if now < 1.4 else 0.1, now)
        assert contract.level == levels(25, 512)[0]


def test_what_was_given_up_comes_back_where_the_promise_is_barely_kept() -> None:
    contract, now = LatencyContract(0.2, levels(25, 512)), 0.0
    while contract.level == levels(25, 512)[0]:
        now += 0.04
        contract.observe(0.3, now)
    began = now
    while contract.level != levels(25, 512)[0] and now < began + 100:
        now += 0.05
        contract.observe(0.19, now)
    assert 10 < now - began < 15


def test_files_wait_and_nothing_is_dropped() -> None:
    clock = Clock()
    settings = LiveSettings(policy="wait", rate_hz=25, driving_face=None)
    stream = LiveStream(
        Slow(clock, lambda: 0.1), Portrait(references=torch.zeros(1, 3, 4, 4)), None, settings, clock
    )
    numbers = []
    waiting = [np.full((4, 4, 3), value, np.uint8) for value in range(50)]
    for index, image in enumerate(waiting):
        while not stream.offer(image, index / 25):
            numbers += [shown.number for shown in stream.step()]
    numbers += [shown.number for shown in stream.step()]
    assert numbers == list(range(50))
    assert stream.counts.shown == stream.counts.offered == 50


@pytest.mark.parametrize("count", [0, 1, 3, 16, 18, 30])
def test_the_end_gives_what_a_family_with_a_delay_owes(count: int) -> None:
    clock = Clock()
    settings = LiveSettings(policy="wait", rate_hz=25, driving_face=None, watermark=None)
    portrait = Portrait(references=torch.zeros(1, 3, 4, 4))
    stream = LiveStream(Late(clock, lambda: 0.1), portrait, None, settings, clock)
    shown = []
    for value in range(count):
        assert stream.offer(np.full((4, 4, 3), value, np.uint8), value / 25)
        shown += stream.step()
    assert len(shown) == max(0, count // 4 * 4 - 12)
    last = stream.end()
    assert last.number is None
    stream.draw(last)
    shown += stream.finish(last)
    assert [picture.number for picture in shown] == list(range(count))
    assert [picture.image.mean() for picture in shown] == list(range(count))
    assert stream.counts.shown == count


def test_a_frame_without_a_face_keeps_its_turn_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(self: Follower, image: np.ndarray, *, irises: bool) -> Seen | None:
        return Seen(image, None, False, (float("nan"),) * 3, 0.0) if image.max() % 3 else None

    monkeypatch.setattr(Follower, "update", seen)
    clock = Clock()
    portrait = Portrait(references=torch.zeros(1, 3, 4, 4))
    settings = LiveSettings(policy="wait", watermark=None)
    stream = LiveStream(Late(clock, lambda: 0.0), portrait, None, settings, clock)
    shown = []
    for value in range(26):
        stream.offer(np.full((4, 4, 3), value, np.uint8), value / 25)
        shown += stream.step()
    last = stream.end()
    stream.draw(last)
    shown += stream.finish(last)
    assert [picture.number for picture in shown] == list(range(26))
    assert [picture.image.mean() for picture in shown[1:]] == [
        value if value % 3 else value - 1 for value in range(1, 26)
    ]


def test_no_rate_is_tried_at_which_waiting_alone_breaks_the_promise() -> None:
    settings = LiveSettings(rate_hz=25, side_px=512, max_latency_ms=1000, driving_face=None)
    portrait = Portrait(references=torch.zeros(1, 3, 4, 4))
    clock = Clock()
    stream = LiveStream(Late(clock, lambda: 1.0), portrait, None, settings, clock)
    rates = set()
    while stream.contract.kept:
        clock.advance(0.5)
        stream.viewed(5.0)
        rates.add(stream.level.rate_hz)
    assert min(rates) == 15.0  # 15 frames in a second
    assert stream.level.side_px < 512
    assert levels(25, 512, 100.0)[0] == Level(25, 512)


def test_a_promise_that_is_shorter_than_the_wait_is_refused() -> None:
    check_promise(Late.stream, 25, 600)
    with pytest.raises(
        InputError, match=r"answers 600 ms after .* than the promised 599 ms with --max-latency 1200"
    ):
        check_promise(Late.stream, 25, 599)


def test_pacing_holds_the_mean_rate_of_a_jittering_camera() -> None:
    _, stream, _ = live(lambda: 0.0, rate_hz=20)
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, 1200)
    for index in range(1200):
        stream.offer(np.zeros((4, 4, 3), np.uint8), index / 60 + jitter[index])
        stream.step()
    assert stream.counts.shown == pytest.approx(400, abs=12)
    stream.offer(np.zeros((4, 4, 3), np.uint8), -5.0)  # the viewer's clock began anew
    assert len(stream.step()) == 1


def test_a_frame_that_is_missed_puts_off_no_others() -> None:
    _, stream, _ = live(lambda: 0.0, rate_hz=12.5)
    missed = np.random.default_rng(0).random(1500) < 0.1
    for index in np.flatnonzero(~missed):
        stream.offer(np.zeros((4, 4, 3), np.uint8), index / 25)
        stream.step()
    assert 735 <= stream.counts.shown <= 750  # of 750 in that minute; 714 where each begins a new beat


def test_eyes_are_looked_at_closely_where_options_ask_for_it_or_motion_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(Follower, "update", lambda self, image, *, irises: asked.append(irises))
    monkeypatch.setattr(Slow, "watches_eyes", lambda self, options: options.gain > 1)
    stream = LiveStream(Slow(Clock(), lambda: 0.0), Portrait(references=torch.zeros(1, 3, 4, 4)))
    for number in range(3):
        if number == 1:
            stream.options = Options(gain=2.0)
        elif number == 2:
            stream.options = Options()
            stream.restart()
        stream.offer(np.zeros((4, 4, 3), np.uint8), float(number))
        stream.step()
    assert asked == [False, True, True]


def test_pictures_that_are_drawn_side_by_side_are_those_of_one_after_another() -> None:
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()["compact"]
    engine = LivePortrait(config, LivePortrait.build_networks(config))
    assert engine.draws_apart
    noise = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    portrait = engine.prepare(noise[-1], face=None)
    settings = LiveSettings(rate_hz=25, driving_face=None)
    in_turn, beside = (LiveStream(engine, portrait, settings=settings) for _ in range(2))
    expected, looked = [], []
    with ThreadPoolExecutor(3) as drawers:
        for number, frame in enumerate(noise[:-1]):
            for stream in (in_turn, beside):
                stream.offer(frame, number / 25)
                if number == 5:
                    stream.restart()
            expected += in_turn.step()
            seen = beside.look()
            assert seen is not None
            looked.append(seen)
        # The last is drawn first; the first of all was drawn as it was looked at.
        assert [callable(face) for each in looked for _, shown in each.due for face in shown] == [False] + [
            True
        ] * 7
        list(drawers.map(beside.draw, reversed(looked)))
    drawn = [picture for each in looked for picture in beside.finish(each)]
    assert [picture.number for picture in drawn] == list(range(8))
    for mine, theirs in zip(drawn, expected, strict=True):
        assert np.array_equal(mine.image, theirs.image)
    # Each is another, but for the sixth, which begins anew as the first did.
    assert len({picture.image.tobytes() for picture in drawn}) == 7
    assert beside.busy_seconds > 0


def test_latency_quantiles_are_right_to_two_percent() -> None:
    meter = LatencyMeter()
    values = np.random.default_rng(0).gamma(2.0, 0.05, 5000)
    for value in values:
        meter.add(float(value))
    for share in (0.5, 0.95):
        assert meter.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.03)
    assert meter.max_seconds == values.max()


def test_nonsense_is_refused_or_ignored() -> None:
    _, stream, _ = live(lambda: 0.0)
    with pytest.raises(InputError, match="capture time"):
        stream.offer(np.zeros((4, 4, 3), np.uint8), float("nan"))
    assert not stream.viewed(-1.0)
    assert not stream.viewed(float("nan"))
    assert stream.latency.count == 0
    with pytest.raises(InputError, match="rate_hz"):
        LiveSettings(rate_hz=0)
