// Render jobs: add, follow, cancel, try again, look at, download.

const NAMES = "vivant-job-"; // what the clips of this tab's jobs were called; the server does not know
const FINAL = new Set(["done", "failed", "cancelled"]);

export class Jobs {
  #client;
  #list;
  #trouble;
  #timer = null;

  constructor(client, list, trouble) {
    this.#client = client;
    this.#list = list;
    this.#trouble = trouble;
  }

  async upload(file) {
    return (await this.#client.fetch("/v1/clips", { method: "POST", body: file })).json();
  }

  // name: of the clip, for the list.
  async add(name, order) {
    const answer = await this.#client.fetch("/v1/jobs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(order),
    });
    sessionStorage.setItem(NAMES + (await answer.json()).id, name);
    await this.watch();
  }

  // Shows all jobs, again and again until none is at work.
  async watch() {
    clearTimeout(this.#timer);
    let jobs;
    try {
      jobs = await (await this.#client.fetch("/v1/jobs")).json();
    } catch (error) {
      if (error.status !== 404) this.#trouble(error.message);
      return;
    }
    const known = new Map([...this.#list.children].map((item) => [item.dataset.key, item]));
    this.#list.replaceChildren(
      ...jobs.map((job) => {
        const key = `${job.id} ${job.state}`;
        const item = known.get(key) ?? this.#item(job, key);
        const bar = item.querySelector("progress");
        if (bar && job.total) {
          Object.assign(bar, { max: job.total, value: job.done });
          item.querySelector(".frames").textContent = `${job.done} of ${job.total} frames`;
        }
        return item;
      }),
    );
    if (jobs.some((job) => !FINAL.has(job.state))) this.#timer = setTimeout(() => this.watch(), 1000);
  }

  #item(job, key) {
    const item = document.createElement("li");
    item.dataset.key = key;
    const at = new Date(job.created * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const name = sessionStorage.getItem(NAMES + job.id);
    const what = make("span", { className: "what" }, make("strong", { textContent: job.state }));
    what.append(make("span", { className: "note", textContent: name ? `${name}, ${at}` : `ordered at ${at}` }));
    const row = make("div", { className: "row" }, what);
    item.append(row);
    const act = (text, verb) =>
      row.append(make("button", { type: "button", textContent: text, onclick: () => this.#do(job, verb) }));
    if (!FINAL.has(job.state)) {
      item.append(make("progress", {}), make("p", { className: "note frames" }));
      act("Cancel", "cancel");
    } else if (job.state === "done") {
      const kinds = job.compare ? ["result", "comparison"] : ["result"];
      for (const kind of kinds) {
        const of = kinds.length > 1 ? ` ${kind}` : "";
        const offer = (text, onclick) => row.append(make("button", { type: "button", textContent: text + of, onclick }));
        offer("Look at", () => this.#look(job, kind, item));
        offer("Download", () => this.#download(job, kind));
      }
    } else {
      act("Try again", "retry");
    }
    if (job.error) item.append(make("p", { className: "note fault", textContent: job.error }));
    return item;
  }

  async #do(job, verb) {
    try {
      await this.#client.fetch(`/v1/jobs/${job.id}/${verb}`, { method: "POST" });
    } catch (error) {
      this.#trouble(error.message);
    }
    this.watch();
  }

  async #fetched(job, kind) {
    return URL.createObjectURL(await (await this.#client.fetch(`/v1/jobs/${job.id}/${kind}`)).blob());
  }

  async #look(job, kind, item) {
    try {
      const seen = item.querySelector("video");
      seen?.remove();
      if (seen?.dataset.kind === kind) return;
      const video = make("video", { src: await this.#fetched(job, kind), controls: true, autoplay: true, loop: true });
      video.dataset.kind = kind;
      item.append(video);
    } catch (error) {
      this.#trouble(error.message);
    }
  }

  async #download(job, kind) {
    try {
      const name = (sessionStorage.getItem(NAMES + job.id) ?? "").replace(/\.[^.]*$/, "") || "vivant";
      const ending = kind === "result" ? "vivant" : "compare";
      const link = make("a", { href: await this.#fetched(job, kind), download: `${name}--${ending}.mp4` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      this.#trouble(error.message);
    }
  }
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
