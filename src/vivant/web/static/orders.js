// The page's other half: a clip is uploaded, what it would take is told, and a render job is ordered.

import { Jobs } from "/static/jobs.js";

const byId = (id) => document.getElementById(id);

export class Orders {
  #jobs;
  #trouble;
  #cast;
  #clip = null;
  #canAnimate = false;

  // cast: who is animated and how, as an order names it: {portrait, face, preset}.
  constructor(client, trouble, cast) {
    this.#jobs = new Jobs(client, byId("jobs"), trouble);
    this.#trouble = trouble;
    this.#cast = cast;
    byId("clip").addEventListener("change", ({ target }) => this.#choose(target.files[0]));
    byId("render").addEventListener("click", () => this.#order());
  }

  watch() {
    this.#jobs.watch();
  }

  // Whether there is somebody to animate; a clip is needed too.
  enable(canAnimate = this.#canAnimate) {
    this.#canAnimate = canAnimate;
    byId("render").disabled = !(canAnimate && this.#clip);
  }

  // preset: its name.
  showPlan(preset) {
    byId("plan").textContent = "";
    if (!this.#clip?.num_frames) return;
    const estimate = this.#clip.seconds_estimates[preset];
    const takes = estimate ? `, about ${Math.max(1, Math.round(estimate))} s of work here` : "";
    byId("plan").textContent = `${this.#clip.seconds.toFixed(1)} s, ${this.#clip.num_frames} frames${takes}`;
  }

  async #choose(file) {
    this.#clip = null;
    this.enable();
    this.#trouble();
    byId("plan").textContent = "";
    if (!file) return;
    byId("upload-progress").hidden = false;
    try {
      this.#clip = await this.#jobs.upload(file);
      this.showPlan(byId("preset").value);
    } catch (error) {
      this.#trouble(`That clip cannot be used: ${error.message}`);
    }
    byId("upload-progress").hidden = true;
    this.enable();
  }

  async #order() {
    this.#trouble();
    try {
      await this.#jobs.add(byId("clip").files[0].name, {
        ...this.#cast(),
        clip: this.#clip.id,
        compare: byId("compare").checked,
        visible_label: byId("label").checked,
        consent: byId("consent").value.trim() || null,
      });
    } catch (error) {
      this.#trouble(`That cannot be rendered: ${error.message}`);
    }
  }
}
