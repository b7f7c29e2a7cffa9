// Sound and pictures of the mode voice, in step: a picture is shown when its sound is heard.

const AHEAD_SECONDS = 0.12; // held back against jitter of the line

export class Speech {
  #context = null;
  #began = null; // context time at which stream time 0 is heard
  #timers = new Set();

  // silent: the sound is the user's own voice and is not played.
  constructor({ silent, show }) {
    this.silent = silent;
    this.show = show;
  }

  open(sampleRate) {
    this.#context = new AudioContext({ sampleRate });
    return this.#context;
  }

  sound({ capturedMs, samples }) {
    const at = this.#due(capturedMs);
    if (this.silent || at < this.#context.currentTime) return;
    const buffer = this.#context.createBuffer(1, samples.length, this.#context.sampleRate);
    const channel = buffer.getChannelData(0);
    for (let index = 0; index < samples.length; index++) channel[index] = samples[index] / 32768;
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#context.destination);
    source.start(at);
  }

  picture(detail) {
    const due = performance.now() + Math.max(0, this.#due(detail.capturedMs) - this.#context.currentTime) * 1000;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.show({ ...detail, capturedMs: due });
    }, due - performance.now());
    this.#timers.add(timer);
  }

  close() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#context?.close();
  }

  #due(streamMs) {
    const now = this.#context.currentTime;
    this.#began ??= now + AHEAD_SECONDS - streamMs / 1000;
    if (this.#began + streamMs / 1000 < now - 0.5) this.#began = now + AHEAD_SECONDS - streamMs / 1000;
    return this.#began + streamMs / 1000;
  }
}
