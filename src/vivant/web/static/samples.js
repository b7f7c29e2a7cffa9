// Audio worklet: hands the microphone's samples over in pieces of 40 ms.

class Samples extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 25));
    this.filled = 0;
  }

  process([channels]) {
    for (const value of channels?.[0] ?? []) {
      this.piece[this.filled++] = value;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("samples", Samples);
