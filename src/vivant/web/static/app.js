// The page: wires portrait, driver and controls to a LiveClient. All state is here; the other files know nothing of it.

import { LiveClient, supportsH264 } from "/static/client.js";
import * as capture from "/static/capture.js";
import { Controls } from "/static/controls.js";
import { acceptDrops, showFaces, shown } from "/static/portrait.js";
import { Screen, Recorder } from "/static/screen.js";
import { Speech } from "/static/speech.js";
import { Orders } from "/static/orders.js";
import { Peer } from "/static/rtc.js";

const byId = (id) => document.getElementById(id);
const TOKEN = "vivant-token";

const client = new LiveClient(location.origin, sessionStorage.getItem(TOKEN));
const driver = byId("driver");
const screen = new Screen(byId("screen"), driver);
const controls = new Controls(byId("controls"), (options) => {
  trouble();
  client.tell({ type: "options", options });
});
const orders = new Orders(client, trouble, () => ({ portrait: portrait.id, face, preset: preset().name }));
let server = null;
let portrait = null; // {id, faces, file, picture}
let face = "largest";
let session = null; // what to undo at the end: a list of functions
let recorder = null;
let cameraStream = null;

function trouble(text) {
  byId("trouble-text").textContent = text ?? "";
  byId("trouble").hidden = !text;
}
byId("trouble-close").addEventListener("click", () => trouble());

// What to do next, over the screen; without a portrait it is a way to choose one.
function hint(text) {
  byId("hint").textContent = text ?? "";
  byId("hint").hidden = !text;
  byId("hint").htmlFor = portrait ? "" : "picture";
}

function status(text, light = "") {
  byId("status-text").textContent = text;
  byId("light").className = light;
}

// who we talk to

async function meet() {
  try {
    server = await (await client.fetch("/v1/server")).json();
  } catch (error) {
    if (error.status === 401) {
      byId("token-form").hidden = false;
      byId("token").focus();
      return;
    }
    trouble(`The server does not answer: ${error.message}`);
    return;
  }
  byId("token-form").hidden = true;
  byId("preset").replaceChildren(...server.presets.map(({ name }) => new Option(name, name)));
  byId("preset-card").hidden = server.presets.length < 2;
  byId("webrtc-row").hidden = !server.webrtc;
  showPreset();
  orders.watch();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  client.token = byId("token").value;
  sessionStorage.setItem(TOKEN, client.token);
  meet();
});

// the preset

const preset = () => server.presets.find(({ name }) => name === byId("preset").value);

function showPreset() {
  const { name, licence, hears, sees, options } = preset();
  const terms = `licence: ${licence ?? "of the server's own weights"}`;
  byId("about").textContent = `vivant ${server.version}, ${name}, ${terms}`;
  byId("preset-note").textContent = terms;
  offer("microphone", hears, `${name} has no voice; drive with pictures`);
  offer("camera", sees, `${name} is driven by sound`);
  if (document.querySelector('[name="drive"]:checked').disabled) choose(sees ? "camera" : "microphone");
  controls.fit(options);
  orders.showPlan(name);
  enable();
}

function offer(driving, can, whyNot) {
  const choice = document.querySelector(`[name="drive"][value="${driving}"]`);
  choice.disabled = !can;
  choice.closest("label").title = can ? "" : whyNot;
}

byId("preset").addEventListener("change", () => {
  const wasLive = session !== null;
  stop();
  trouble();
  showPreset();
  if (wasLive) start();
});

// the portrait

async function choosePortrait(file) {
  if (!file) return;
  trouble();
  status("looking at the picture");
  try {
    portrait = { ...(await client.upload(file)), file, picture: await shown(file) };
  } catch (error) {
    portrait = null;
    trouble(`That picture cannot be used: ${error.message}`);
  }
  status("ready");
  face = "largest";
  showPortrait();
  enable();
}

function showPortrait() {
  if (session) stop();
  byId("thumb").hidden = !portrait;
  byId("drop-text").hidden = Boolean(portrait);
  rest();
  if (!portrait) return;
  byId("faces-note").textContent = showFaces(byId("thumb"), portrait, (number) => {
    face = number;
    if (session) start();
  });
}

// Nothing runs: the portrait as it is, and what to do next.
function rest() {
  if (portrait?.picture) screen.still(portrait.picture);
  else screen.clear();
  hint(!portrait ? "Choose a portrait" : portrait.faces.length ? "Press Start" : null);
}

byId("picture").addEventListener("change", ({ target }) => choosePortrait(target.files[0]));
for (const place of [byId("drop"), byId("screen-box")]) acceptDrops(place, choosePortrait);

// a live session

const drive = () => document.querySelector('[name="drive"]:checked').value;

function choose(driving) {
  document.querySelector(`[name="drive"][value="${driving}"]`).click();
}

for (const radio of document.querySelectorAll('[name="drive"]')) {
  radio.addEventListener("change", () => {
    byId("drive-file-row").hidden = drive() !== "file";
    if (session) stop();
    enable();
  });
}
byId("drive-file").addEventListener("change", enable);
for (const name of ["webrtc", "with-sound"]) {
  byId(name).addEventListener("change", () => {
    byId("with-sound-row").hidden = !byId("webrtc").checked;
    if (session) start();
  });
}

function enable() {
  const hasDriver = drive() !== "file" || byId("drive-file").files.length > 0;
  const canAnimate = Boolean(server && portrait?.faces.length);
  byId("start").disabled = !session && !(canAnimate && hasDriver);
  byId("start").textContent = session ? "Stop" : "Start";
  byId("restart").disabled = !session || session.isVoice;
  byId("record").disabled = !session;
  orders.enable(canAnimate);
}

async function start() {
  stop();
  trouble();
  status("starting");
  hint("Starting …");
  byId("start").disabled = true;
  session = Object.assign([], { isVoice: false });
  try {
    // What does not see is driven by a video's sound.
    const isHeard = drive() === "microphone" || isSoundFile() || !preset().sees;
    await (isHeard ? startVoice() : startVideo());
    status("live", "on");
  } catch (error) {
    stop();
    trouble(capture.explained(error));
  }
  enable();
}

function isSoundFile() {
  return drive() === "file" && byId("drive-file").files[0].type.startsWith("audio/");
}

function hello(more) {
  return { portrait: portrait.id, face, preset: preset().name, side_px: 512, max_latency_ms: server.max_latency_ms, options: controls.chosen, ...more };
}

async function startVideo() {
  if (drive() === "camera") {
    cameraStream = await capture.openCamera(driver, { withSound: byId("with-sound").checked && usesRtc() });
  } else {
    await capture.openVideoFile(driver, byId("drive-file").files[0]);
  }
  session.push(() => capture.closeVideo(driver));
  driver.classList.add("seen");
  driver.classList.toggle("file", drive() === "file");
  if (usesRtc()) return startPeer({ mode: "camera", rate_hz: 25 }, capture.tracksOf(driver), false);
  const codec = (await supportsH264()) ? "h264" : "jpeg";
  controls.show((await client.start(hello({ mode: "camera", send: codec, receive: codec, rate_hz: 25 }))).options);
  session.push(
    capture.everyFrame(driver, (capturedMs) => {
      if (driver.videoWidth) client.push(driver, capturedMs, ...capture.sentSize(driver));
    }),
  );
}

const usesRtc = () => Boolean(server.webrtc) && byId("webrtc").checked;

async function startPeer(wanted, tracks, isHeard) {
  const peer = new Peer(client, { isHeard });
  session.push(() => peer.close());
  session.peer = peer;
  controls.show((await client.start(hello({ ...wanted, transport: "webrtc" }))).options);
  await peer.open(tracks);
}

async function startVoice() {
  if (usesRtc()) return startVoicePeer();
  const codec = (await supportsH264()) ? "h264" : "jpeg";
  const isMicrophone = drive() === "microphone";
  const speech = new Speech({ silent: isMicrophone, show: showPicture });
  session.push(() => speech.close());
  session.isVoice = true;
  session.speech = speech;
  const ready = await client.start(hello({ mode: "voice", receive: codec }));
  controls.show(ready.options);
  const context = speech.open(ready.sample_rate_hz);
  const say = (samples) => client.say(samples);
  session.push(
    await (isMicrophone
      ? capture.openMicrophone(context, say)
      : capture.openSoundFile(context, byId("drive-file").files[0], say)),
  );
}

async function startVoicePeer() {
  const file = drive() === "microphone" ? null : byId("drive-file").files[0];
  const { track, close } = await capture.soundTrack(file);
  session.push(close);
  session.isVoice = true;
  await startPeer({ mode: "voice" }, [track], Boolean(file));
}

function stop() {
  if (!session) return;
  const undo = session;
  session = null;
  client.stop();
  for (const step of undo.reverse()) step();
  if (recorder) finishRecording();
  cameraStream = null;
  driver.classList.remove("seen");
  rest();
  byId("promise").textContent = "";
  status("ready");
  enable();
}

function showPicture(detail) {
  hint(null);
  screen.show(detail.image);
  const latency = client.viewed(detail);
  if (!session.isVoice) screen.noteLatency(latency); // a voice's pictures wait for their sound
}

client.addEventListener("picture", ({ detail }) => {
  if (!session) return detail.image.close();
  if (session.speech) session.speech.picture(detail);
  else showPicture(detail);
});
client.addEventListener("sound", ({ detail }) => session?.speech?.sound(detail));
client.addEventListener("closed", ({ detail }) => {
  if (!session) return;
  stop();
  if (detail.code !== 1000) trouble(`The session ended: ${detail.reason}.`);
});
client.addEventListener("error", ({ detail }) => trouble(detail.message));
client.addEventListener("options", ({ detail }) => controls.show(detail.options));
client.addEventListener("pace", ({ detail }) => {
  const broken = !detail.kept;
  byId("promise").classList.toggle("broken", broken);
  byId("promise").textContent = broken
    ? `This machine cannot hold ${server.max_latency_ms} ms at present; it gives what it can.`
    : `To hold ${server.max_latency_ms} ms: at most ${Math.round(detail.rate_hz)} pictures a second, ${detail.side_px} px.`;
  status(broken ? "behind" : "live", broken ? "slow" : "on");
});
client.addEventListener("stats", ({ detail }) => {
  byId("meter-dropped").textContent = detail.dropped + client.dropped;
});
setInterval(() => {
  if (recorder) byId("record").textContent = `Stop recording (${Math.round(recorder.seconds)} s)`;
  if (!session) return;
  const ms = (value) => (value === null ? "–" : `${Math.round(value)} ms`);
  byId("meter-fps").textContent = screen.rate.toFixed(1);
  byId("meter-p50").textContent = ms(screen.quantile(0.5));
  byId("meter-p95").textContent = ms(screen.quantile(0.95));
}, 500);

byId("start").addEventListener("click", () => (session ? stop() : start()));
byId("restart").addEventListener("click", () => client.tell({ type: "restart" }));
byId("beside").addEventListener("change", ({ target }) => {
  screen.sideBySide = target.checked;
  driver.classList.toggle("inside", target.checked);
});

// recording

byId("record").addEventListener("click", () => (recorder ? finishRecording() : beginRecording()));

function beginRecording() {
  // Over WebRTC the sound comes back in step with the pictures.
  const { peer } = session;
  recorder = new Recorder(byId("screen"), peer?.stream ?? cameraStream, peer ? 0 : (screen.quantile(0.5) ?? 0) / 1000);
  screen.repaint();
  byId("record").textContent = "Stop recording";
  byId("record").classList.add("recording");
}

async function finishRecording() {
  const finished = recorder;
  recorder = null;
  byId("record").textContent = "Record";
  byId("record").classList.remove("recording");
  const film = await finished.stop();
  if (!film.size) return trouble("Nothing was recorded; wait for a picture and record again.");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(film);
  link.download = "vivant.webm";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// controls

byId("reset").addEventListener("click", () => {
  controls.show(preset().options);
  client.tell({ type: "options", options: controls.chosen });
});

// live or render

function go(where) {
  const isLive = where === "live";
  byId("go-live").setAttribute("aria-pressed", String(isLive));
  byId("go-render").setAttribute("aria-pressed", String(!isLive));
  for (const part of document.querySelectorAll(".live-only")) part.hidden = !isLive;
  for (const part of document.querySelectorAll(".render-only")) part.hidden = isLive;
  byId("stage").hidden = !isLive;
  document.body.classList.toggle("rendering", !isLive);
  if (!isLive) stop();
}
byId("go-live").addEventListener("click", () => go("live"));
byId("go-render").addEventListener("click", () => go("render"));

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, button, textarea") || event.ctrlKey || event.metaKey) return;
  if (event.key === "s" && !byId("start").disabled) byId("start").click();
  if (event.key === "r" && !byId("record").disabled) byId("record").click();
  if (event.key === "c" && !byId("restart").disabled) byId("restart").click();
});

meet();
