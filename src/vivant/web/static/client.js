// The live connection, version 1 (docs/protocol.md): frames or sound in, pictures and sound out.
//
//   const client = new LiveClient(location.origin, token);
//   const portrait = await client.upload(file);
//   client.addEventListener("picture", ({detail}) => { draw(detail.image); client.viewed(detail); });
//   await client.start({portrait: portrait.id, mode: "camera"});
//   client.push(videoElement, performance.now());
//
// Knows nothing of the page. Events: picture, sound, stats, pace, options, error, closed; with transport webrtc (rtc.js)
// also answer and sent.

export const VERSION = 1;
const HEADER_BYTES = 24;
const PICTURE = 1;
const SOUND = 2;
const MAX_UNANSWERED = 4; // frames sent beyond the last that was answered: by its picture, or `taken` by what waits for more
const STALLED_MS = 1000; // after this long without an answer one more frame is tried
const EARLY = 0.3; // share of its interval that a frame may come too soon, as the server has it
const LATE = 0.6; // and too late without putting off those after it
const H264 = "avc1.42E01F"; // constrained baseline, level 3.1

export async function supportsH264() {
  if (!("VideoEncoder" in globalThis) || !("VideoDecoder" in globalThis)) return false;
  try {
    const [encoder, decoder] = await Promise.all([
      VideoEncoder.isConfigSupported(encoderConfig(640, 480, 25)),
      VideoDecoder.isConfigSupported({ codec: H264, optimizeForLatency: true }),
    ]);
    return encoder.supported && decoder.supported;
  } catch {
    return false;
  }
}

function encoderConfig(width, height, rate) {
  return {
    codec: H264,
    width,
    height,
    bitrate: 1_500_000,
    framerate: rate,
    latencyMode: "realtime",
    avc: { format: "annexb" },
  };
}

export class LiveClient extends EventTarget {
  #socket = null;
  #encoder = null;
  #decoder = null;
  #canvas = null;
  #waiting = new Map(); // decoder timestamp -> {number, capturedMs, isKey}
  #number = 0;
  #answered = -1;
  #lastSent = 0;
  #rate = 25;
  #dueMs = -Infinity;
  #isEncoding = false;
  #sentKey = false;
  #needsKey = true;

  constructor(address, token = null) {
    super();
    this.address = address.replace(/\/$/, "");
    this.token = token;
    this.ready = null;
    this.dropped = 0; // frames that this side left out
  }

  async fetch(path, init = {}) {
    const headers = new Headers(init.headers);
    if (this.token) headers.set("authorization", `Bearer ${this.token}`);
    const answer = await fetch(this.address + path, { ...init, headers });
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({ detail: answer.statusText }));
      const detail = typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail);
      throw Object.assign(new Error(detail), { status: answer.status });
    }
    return answer;
  }

  async upload(file) {
    return (await this.fetch("/v1/portraits", { method: "POST", body: file })).json();
  }

  // hello: fields of the message `hello`; resolves with the message `ready`.
  start(hello) {
    const socket = new WebSocket(this.address.replace(/^http/, "ws") + "/v1/live");
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.hello = { type: "hello", version: VERSION, token: this.token, acknowledge: true, ...hello };
    this.#rate = hello.rate_hz ?? 25;
    return new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(JSON.stringify(this.hello));
      socket.onerror = () => reject(new Error("the server cannot be reached"));
      socket.onclose = (event) => {
        const reason = event.reason || "the server ended the connection";
        reject(new Error(reason));
        this.#release();
        this.#emit("closed", { code: event.code, reason });
      };
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") return this.#receive(data);
        const message = JSON.parse(data);
        if (message.type === "ready") {
          this.ready = message;
          resolve(message);
        } else if (message.type === "error") {
          if (message.fatal) reject(new Error(message.message));
          this.#emit("error", message);
        } else if (message.type === "taken") {
          this.#answered = Math.max(this.#answered, message.number);
        } else if (message.type === "pace") {
          this.#rate = message.rate_hz;
          this.#emit("pace", message);
        } else {
          this.#emit(message.type === "options_now" ? "options" : message.type, message);
        }
      };
    });
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN && this.ready !== null;
  }

  tell(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  // The picture is on the screen. Over WebRTC its number or the time of its capture (null) may not be known yet.
  viewed({ number, capturedMs }, nowMs = performance.now()) {
    if (number === null) return null;
    const latency_ms = capturedMs === null ? null : Math.min(600_000, Math.max(0, nowMs - capturedMs));
    this.tell({ type: "viewed", number, latency_ms });
    return latency_ms;
  }

  // Whether a frame captured now would be sent: the pace, and what is still on its way.
  wants(capturedMs) {
    if (!this.isOpen) return false;
    const interval = 1000 / this.#rate;
    if (capturedMs < this.#dueMs - EARLY * interval && capturedMs >= this.#dueMs - 2 * interval) return false;
    if (this.#isEncoding || this.#socket.bufferedAmount > 200_000) return false;
    const unanswered = this.#number - 1 - this.#answered;
    return unanswered < MAX_UNANSWERED || performance.now() - this.#lastSent > STALLED_MS;
  }

  // source: what a canvas can draw (video, canvas, ImageBitmap); size: its width and height to send.
  async push(source, capturedMs, width, height) {
    if (!this.wants(capturedMs)) {
      this.dropped += 1;
      return false;
    }
    const [interval, late] = [1000 / this.#rate, capturedMs - this.#dueMs];
    const isOnBeat = late >= -EARLY * interval && late <= LATE * interval;
    this.#dueMs = (isOnBeat ? this.#dueMs : capturedMs) + interval;
    width -= width % 2;
    height -= height % 2;
    if (this.hello.send === "h264") {
      this.#encode(source, capturedMs, width, height);
      return true;
    }
    this.#isEncoding = true;
    try {
      this.#canvas ??= new OffscreenCanvas(width, height);
      if (this.#canvas.width !== width) this.#canvas.width = width;
      if (this.#canvas.height !== height) this.#canvas.height = height;
      this.#canvas.getContext("2d").drawImage(source, 0, 0, width, height);
      const blob = await this.#canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
      this.#send(PICTURE, true, capturedMs, width, height, new Uint8Array(await blob.arrayBuffer()));
    } finally {
      this.#isEncoding = false;
    }
    return true;
  }

  // samples: Int16Array, mono, at ready.sample_rate_hz.
  say(samples) {
    if (this.isOpen) this.#send(SOUND, false, performance.now(), 0, 0, new Uint8Array(samples.buffer));
  }

  stop() {
    this.#socket?.close(1000);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #release() {
    this.ready = null;
    if (this.#encoder?.state !== "closed") this.#encoder?.close();
    if (this.#decoder?.state !== "closed") this.#decoder?.close();
    this.#encoder = this.#decoder = null;
  }

  #encode(source, capturedMs, width, height) {
    const isNew = !this.#encoder || this.#encoder.width !== width || this.#encoder.height !== height;
    if (isNew) {
      this.#encoder?.close();
      this.#encoder = new VideoEncoder({
        output: (chunk) => {
          const data = new Uint8Array(chunk.byteLength);
          chunk.copyTo(data);
          if (this.isOpen) this.#send(PICTURE, chunk.type === "key", chunk.timestamp / 1000, width, height, data);
        },
        error: (error) => this.#emit("error", { message: `this browser cannot encode: ${error.message}`, fatal: true }),
      });
      Object.assign(this.#encoder, { width, height });
      this.#encoder.configure(encoderConfig(width, height, this.#rate));
      this.#sentKey = false;
    }
    if (this.#encoder.encodeQueueSize > 1) {
      this.dropped += 1;
      return;
    }
    const frame = new VideoFrame(source, { timestamp: Math.round(capturedMs * 1000) });
    const scaled = frame.displayWidth === width && frame.displayHeight === height ? frame : this.#scaled(frame, width, height);
    this.#encoder.encode(scaled, { keyFrame: !this.#sentKey });
    this.#sentKey = true;
    scaled.close();
    if (scaled !== frame) frame.close();
  }

  #scaled(frame, width, height) {
    this.#canvas ??= new OffscreenCanvas(width, height);
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#canvas.getContext("2d").drawImage(frame, 0, 0, width, height);
    return new VideoFrame(this.#canvas, { timestamp: frame.timestamp });
  }

  #send(kind, isKey, capturedMs, width, height, payload) {
    const packet = new Uint8Array(HEADER_BYTES + payload.length);
    const view = new DataView(packet.buffer);
    view.setUint8(0, kind);
    view.setUint8(1, isKey ? 1 : 0);
    view.setUint32(4, this.#number, true);
    view.setFloat64(8, capturedMs, true);
    view.setUint16(16, width, true);
    view.setUint16(18, height, true);
    packet.set(payload, HEADER_BYTES);
    this.#socket.send(packet);
    this.#number += 1;
    this.#lastSent = performance.now();
  }

  async #receive(data) {
    const view = new DataView(data);
    const packet = {
      isKey: view.getUint8(1) === 1,
      number: view.getUint32(4, true),
      capturedMs: view.getFloat64(8, true),
      width: view.getUint16(16, true),
      height: view.getUint16(18, true),
    };
    const payload = new Uint8Array(data, HEADER_BYTES);
    if (view.getUint8(0) === SOUND) {
      const samples = new Int16Array(payload.slice().buffer);
      this.#emit("sound", { ...packet, speaking: packet.isKey, samples });
      return;
    }
    this.#answered = Math.max(this.#answered, packet.number);
    if (this.hello.receive === "h264") return this.#decode(packet, payload);
    const image = await createImageBitmap(new Blob([payload], { type: `image/${this.hello.receive}` }));
    this.#emit("picture", { ...packet, image });
  }

  #decode(packet, payload) {
    if (!this.#decoder || this.#decoder.state === "closed") {
      this.#needsKey = true;
      this.#decoder = new VideoDecoder({
        output: (frame) => {
          const source = this.#waiting.get(frame.timestamp);
          this.#waiting.delete(frame.timestamp);
          this.#emit("picture", { ...source, image: frame });
        },
        error: () => {
          this.#waiting.clear();
          this.tell({ type: "want_key" });
        },
      });
      this.#decoder.configure({ codec: H264, optimizeForLatency: true });
    }
    if (this.#needsKey && !packet.isKey) {
      this.viewed(packet); // answered, though nobody saw it
      return this.tell({ type: "want_key" });
    }
    this.#needsKey = false;
    const timestamp = packet.number * 1000;
    this.#waiting.set(timestamp, packet);
    this.#decoder.decode(
      new EncodedVideoChunk({ type: packet.isKey ? "key" : "delta", timestamp, data: payload }),
    );
  }
}
