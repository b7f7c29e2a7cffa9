// WebRTC beside the live connection (docs/protocol.md): camera and microphone go as tracks, pictures and sound come back.
//
//   await client.start({..., transport: "webrtc"});
//   const peer = new Peer(client, { isHeard: false });
//   await peer.open(tracks);     // then the client's event "picture", with images as always
//   peer.stream                  // what came back, sound and pictures in step
//
// Which frame drove a picture, and when that was captured, the server tells by the picture's RTP timestamp.

const REMEMBERED = 128;
const GATHER_MS = 3000;
const MAX_SIDE = 480;

export class Peer {
  #client;
  #connection = null;
  element = Object.assign(document.createElement("video"), { playsInline: true });
  #told = new Map(); // RTP timestamp -> {number, capturedMs}
  #seen = new Map(); // RTP timestamp -> when, for pictures that came before the server's word on them
  #undo = new AbortController();

  constructor(client, { isHeard }) {
    this.#client = client;
    this.element.muted = !isHeard;
    this.stream = new MediaStream();
    const until = { signal: this.#undo.signal };
    client.addEventListener("sent", ({ detail }) => this.#hear(detail), until);
    client.addEventListener("pace", ({ detail }) => this.#pace(detail.rate_hz), until);
  }

  // tracks: at most one video and one audio; resolves once the server has answered.
  async open(tracks) {
    const iceServers = this.#client.ready.ice_servers.map((server) =>
      Object.fromEntries(Object.entries(server).filter(([, value]) => value !== null)),
    );
    const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.#connection = connection;
    connection.ontrack = ({ track }) => this.#receive(track);
    const video = tracks.find((track) => track.kind === "video");
    const audio = tracks.find((track) => track.kind === "audio");
    if (video) connection.addTransceiver(video, { sendEncodings: [encoding(video)] });
    else connection.addTransceiver("video", { direction: "recvonly" });
    if (audio) connection.addTransceiver(audio);
    await connection.setLocalDescription();
    await gathered(connection);
    const answer = answered(this.#client);
    this.#client.tell({ type: "offer", sdp: connection.localDescription.sdp });
    await connection.setRemoteDescription({ type: "answer", sdp: (await answer).sdp });
  }

  close() {
    this.#undo.abort();
    this.#connection?.close();
    this.element.srcObject = null;
  }

  #receive(track) {
    this.stream.addTrack(track);
    if (track.kind !== "video") return;
    this.element.srcObject = this.stream;
    this.element.play();
    this.element.requestVideoFrameCallback((now, metadata) => this.#show(now, metadata));
  }

  async #show(now, { rtpTimestamp }) {
    if (this.#undo.signal.aborted) return;
    this.element.requestVideoFrameCallback((later, metadata) => this.#show(later, metadata));
    if (this.element.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return; // seen on a busy machine
    const told = this.#told.get(rtpTimestamp) ?? { number: null, capturedMs: null };
    if (told.number === null) remember(this.#seen, rtpTimestamp, now);
    const image = "VideoFrame" in globalThis ? new VideoFrame(this.element) : await createImageBitmap(this.element);
    this.#client.dispatchEvent(new CustomEvent("picture", { detail: { ...told, image } }));
  }

  #hear({ number, rtp_timestamp, captured_ms }) {
    const capturedMs = captured_ms === null ? null : captured_ms - performance.timeOrigin;
    remember(this.#told, rtp_timestamp, { number, capturedMs });
    const seenMs = this.#seen.get(rtp_timestamp);
    if (seenMs !== undefined) this.#client.viewed({ number, capturedMs }, seenMs);
  }

  async #pace(rate) {
    for (const sender of this.#connection?.getSenders() ?? []) {
      if (sender.track?.kind !== "video") continue;
      const parameters = sender.getParameters();
      for (const each of parameters.encodings) each.maxFramerate = rate;
      await sender.setParameters(parameters);
    }
  }
}

function encoding(track) {
  const { width = MAX_SIDE, height = MAX_SIDE } = track.getSettings();
  return { scaleResolutionDownBy: Math.max(1, Math.max(width, height) / MAX_SIDE) };
}

// There is no trickle: the offer carries all candidates that were found in time.
function gathered(connection) {
  return new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.onicegatheringstatechange = look;
    setTimeout(resolve, GATHER_MS);
    look();
  });
}

function answered(client) {
  return new Promise((resolve, reject) => {
    client.addEventListener("answer", ({ detail }) => resolve(detail), { once: true });
    client.addEventListener("closed", ({ detail }) => reject(new Error(detail.reason)), { once: true });
  });
}

function remember(memory, key, value) {
  memory.set(key, value);
  if (memory.size > REMEMBERED) memory.delete(memory.keys().next().value);
}
