"""Mode voice of a live connection: sound drives; pictures and that sound come back in step, without an end.

Pictures give way before sound does: where drawing takes too long, a picture is left out and its sound is not.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any

import numpy as np

from vivant import records
from vivant.engine import Portrait
from vivant.errors import InputError
from vivant.live.speaker import Speaker, Spoken
from vivant.web import protocol
from vivant.web.delivery import LOST_SECONDS, Delivery, Ears, deliver
from vivant.web.house import House
from vivant.web.line import Line, change_options, until_one_ends
from vivant.web.told import for_viewers

IDLE_SECONDS = 600.0
"""An agent may be silent for this long."""
AHEAD_PICTURES = 12
"""Pictures on their way that were not reported as viewed; then sound alone is sent."""


async def converse(line: Line, house: House, hello: protocol.Hello, portrait: Portrait, options: Any) -> None:
    """The whole session."""
    offer = house.workshop.offers.named(hello.preset)
    engine = await house.workshop.engine(offer)
    with for_viewers(offer):
        voice = None if engine.hears else await house.workshop.voice(offer)
    name = secrets.token_hex(4)  # 32 bits, also in every picture
    speaker = Speaker(
        engine,
        portrait,
        voice,
        options,
        seed=hello.seed,
        side_px=hello.side_px,
        watermark=int(name, 16) if house.serving.watermark else None,
    )
    ears = Ears(sound=speaker.say, sample_rate_hz=speaker.sample_rate_hz)
    delivery = deliver(line, house.serving, hello, speaker.frame_rate_hz, ears)
    height, width = speaker.frame_size
    await line.tell(
        protocol.Ready(
            session=name,
            preset=offer.name,
            width=width,
            height=height,
            options=records.to_data(speaker.options),
            rate_hz=speaker.frame_rate_hz,
            sample_rate_hz=speaker.sample_rate_hz,
            ice_servers=delivery.ice_servers,
            latency_frames=(engine if voice is None else voice).stream.latency_frames,
        )
    )
    talk = _Talk(line, house, delivery, speaker, portrait)
    try:
        await until_one_ends(house.closing, talk.listen, talk.speak, *delivery.parts)
    finally:
        await delivery.close()
        await house.workshop.run(speaker.close)


class _Talk:
    def __init__(
        self, line: Line, house: House, delivery: Delivery, speaker: Speaker, portrait: Portrait
    ) -> None:
        self._line, self._house, self._delivery, self._speaker = line, house, delivery, speaker
        self._engine, self._portrait = speaker.engine, portrait
        self._seen = self._sent = -1
        self._sent_at = 0.0

    async def listen(self) -> None:
        while True:
            heard = await self._line.hear(IDLE_SECONDS)
            match heard:
                case protocol.Binary(kind=protocol.Kind.SOUND):
                    if len(heard.payload) % 2:
                        raise InputError("sound is 16-bit samples; this packet has half a sample")
                    self._speaker.say(np.frombuffer(heard.payload, "<i2").astype(np.float32) / 32768)
                case protocol.Interrupt():
                    self._speaker.interrupt()
                case protocol.Viewed():
                    self._seen = max(self._seen, heard.number)
                    if heard.latency_ms is not None:
                        self._house.metrics.latency.add(heard.latency_ms / 1000)
                case protocol.WantKey():
                    self._delivery.want_key()
                case protocol.Offer():
                    await self._line.tell(await self._delivery.answer(heard))
                case protocol.ChangeOptions():
                    await change_options(self._line, heard, self._speaker, self._engine, self._portrait)
                case _:
                    raise InputError("pictures and restarts are not for the mode voice")

    async def speak(self) -> None:
        clock = asyncio.get_running_loop().time
        interval = 1 / self._speaker.frame_rate_hz
        began, number = clock(), 0
        while True:
            late = clock() - began - number * interval
            if late > 1:  # a second behind even without pictures: begin a new beat
                began += late
            draw = late < interval and self._has_room(clock())
            spoken = await self._house.workshop.run(partial(self._speaker.step, draw=draw))
            if spoken is not None:
                await self._send(spoken, number, number * interval)
            number += 1
            await asyncio.sleep(max(0.0, began + number * interval - clock()))

    def _has_room(self, now: float) -> bool:
        is_lost = self._delivery.may_lose and now > self._sent_at + LOST_SECONDS
        return is_lost or self._sent - self._seen < AHEAD_PICTURES

    async def _send(self, spoken: Spoken, number: int, seconds: float) -> None:
        """Sound first: it may not be late."""
        await self._delivery.sound(spoken.samples, number, seconds, spoken.speaking)
        if spoken.image is None:
            return
        self._sent, self._sent_at = number, asyncio.get_running_loop().time()
        self._house.metrics.frames_shown_total += 1
        await self._delivery.picture(spoken.image, number, seconds)
