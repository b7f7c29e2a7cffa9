// What is seen: pictures on a canvas, alone or beside what drives them, how late and how often; and a recorder.

export class Screen {
  #canvas;
  #context;
  #driver;
  #last = null;
  #times = [];

  constructor(canvas, driver) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { desynchronized: true });
    this.#driver = driver;
    this.sideBySide = false;
    this.latencies = []; // of the last 100 pictures, ms
  }

  // Draw; resolves once the browser has had the picture in its hands for a frame.
  show(image) {
    const width = image.displayWidth ?? image.width;
    const height = image.displayHeight ?? image.height;
    const left = this.sideBySide && this.#driver.videoWidth ? this.#driverWidth(height) : 0;
    if (this.#canvas.width !== left + width) this.#canvas.width = left + width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    if (left) this.#context.drawImage(this.#driver, 0, 0, left, height);
    this.#context.drawImage(image, left, 0, width, height);
    if (this.#last !== image) this.#last?.close?.();
    this.#last = image;
    this.#times.push(performance.now());
    if (this.#times.length > 50) this.#times.shift();
  }

  // Once more: a recorder sees only what is drawn while it runs.
  repaint() {
    if (this.#last) this.show(this.#last);
  }

  // A picture that stands: the portrait before anything moves it.
  still(picture) {
    this.clear();
    const scale = Math.min(1, 1280 / Math.max(picture.naturalWidth, picture.naturalHeight));
    this.#canvas.width = Math.round(picture.naturalWidth * scale);
    this.#canvas.height = Math.round(picture.naturalHeight * scale);
    this.#context.drawImage(picture, 0, 0, this.#canvas.width, this.#canvas.height);
  }

  // null: not known.
  noteLatency(ms) {
    if (ms === null) return;
    this.latencies.push(ms);
    if (this.latencies.length > 100) this.latencies.shift();
  }

  quantile(share) {
    if (!this.latencies.length) return null;
    const sorted = [...this.latencies].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }

  // Pictures per second over the last two seconds.
  get rate() {
    const since = performance.now() - 2000;
    const recent = this.#times.filter((time) => time > since);
    return recent.length / 2;
  }

  // Nothing is seen: setting the size wipes the canvas.
  clear() {
    this.#canvas.width = this.#canvas.height = 512;
    this.#last?.close?.();
    this.#last = null;
    this.#times = [];
    this.latencies = [];
  }

  #driverWidth(height) {
    return Math.round((height * this.#driver.videoWidth) / this.#driver.videoHeight / 2) * 2;
  }
}

// Records the canvas with a sound, which is delayed as much as the picture is late.
export class Recorder {
  #began;

  constructor(canvas, soundStream, delaySeconds) {
    const stream = canvas.captureStream(30);
    if (soundStream?.getAudioTracks().length) {
      this.context = new AudioContext();
      const delay = this.context.createDelay(2);
      delay.delayTime.value = Math.min(2, delaySeconds);
      const target = this.context.createMediaStreamDestination();
      this.context.createMediaStreamSource(soundStream).connect(delay).connect(target);
      stream.addTrack(target.stream.getAudioTracks()[0]);
    }
    const type = ["video/webm;codecs=vp9,opus", "video/webm;codecs=vp8,opus", "video/webm"].find((name) =>
      MediaRecorder.isTypeSupported(name),
    );
    this.parts = [];
    this.recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 4_000_000 });
    this.recorder.ondataavailable = ({ data }) => this.parts.push(data);
    this.recorder.start(1000);
    this.#began = performance.now();
  }

  get seconds() {
    return (performance.now() - this.#began) / 1000;
  }

  stop() {
    return new Promise((resolve) => {
      this.recorder.onstop = () => {
        this.context?.close();
        resolve(new Blob(this.parts, { type: this.recorder.mimeType }));
      };
      this.recorder.stop();
    });
  }
}
