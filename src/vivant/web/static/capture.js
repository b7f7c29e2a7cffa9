// What drives: a camera or a video file as a <video> element, a microphone or a sound file as samples.

const MAX_SIDE = 480;

// The size to send: the longer side at most MAX_SIDE, even.
export function sentSize(video) {
  const share = Math.min(1, MAX_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const even = (length) => Math.max(2, Math.round((length * share) / 2) * 2);
  return [even(video.videoWidth), even(video.videoHeight)];
}

export async function openCamera(video, { withSound }) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" },
    audio: withSound ? { echoCancellation: true } : false,
  });
  video.srcObject = stream;
  video.muted = true;
  await video.play();
  return stream;
}

export async function openVideoFile(video, file) {
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  video.loop = true;
  video.muted = true;
  await video.play();
}

export function closeVideo(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.pause();
  video.srcObject = null;
  video.removeAttribute("src");
  video.load();
}

// Calls back with each frame and the time of its capture, on the clock of performance.now().
export function everyFrame(video, callback) {
  let running = true;
  const next = (now, metadata) => {
    if (!running) return;
    callback(metadata?.captureTime ?? now);
    ask();
  };
  const ask = () =>
    "requestVideoFrameCallback" in video ? video.requestVideoFrameCallback(next) : requestAnimationFrame(next);
  ask();
  return () => {
    running = false;
  };
}

// Microphone samples as Int16Array, in pieces of 40 ms at the rate of `context`.
export async function openMicrophone(context, callback) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
  await context.audioWorklet.addModule("/static/samples.js");
  const source = context.createMediaStreamSource(stream);
  const node = new AudioWorkletNode(context, "samples", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => callback(toInt16(data));
  source.connect(node);
  return () => {
    source.disconnect();
    for (const track of stream.getTracks()) track.stop();
  };
}

// What a video element shows, as tracks for WebRTC: those of a camera, or of a file that is played.
export function tracksOf(video) {
  const stream = video.srcObject ?? video.captureStream?.() ?? video.mozCaptureStream?.();
  if (!stream) throw new Error("This browser cannot send a video file over WebRTC; choose the other way.");
  return stream.getTracks();
}

// The microphone or a sound file as a track for WebRTC: {track, close}.
export async function soundTrack(file) {
  if (!file) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    const [track] = stream.getAudioTracks();
    return { track, close: () => track.stop() };
  }
  const context = new AudioContext();
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(await file.arrayBuffer());
  const target = context.createMediaStreamDestination();
  source.connect(target);
  source.start();
  return { track: target.stream.getAudioTracks()[0], close: () => context.close() };
}

// A sound file, sent as fast as it would be spoken.
export async function openSoundFile(context, file, callback) {
  const sound = await context.decodeAudioData(await file.arrayBuffer());
  const samples = sound.getChannelData(0);
  const size = Math.round(context.sampleRate / 25);
  const began = performance.now();
  let position = 0;
  const timer = setInterval(() => {
    const due = Math.min(samples.length, ((performance.now() - began) / 1000 + 0.2) * context.sampleRate);
    for (; position + size <= due || (due === samples.length && position < due); position += size) {
      callback(toInt16(samples.subarray(position, position + size)));
    }
    if (position >= samples.length) clearInterval(timer);
  }, 40);
  return () => clearInterval(timer);
}

function toInt16(samples) {
  return Int16Array.from(samples, (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767));
}

// An error of camera, microphone or anything else, as a sentence for the user.
export function explained(error) {
  if (error.name === "NotAllowedError") return "The browser may not use the camera or microphone; allow it and start again.";
  if (error.name === "NotFoundError") return "No camera or microphone was found; plug one in, or drive with a file.";
  return error.message;
}
