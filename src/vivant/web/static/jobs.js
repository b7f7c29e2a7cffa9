// Render jobs: add, watch, cancel, try again, download.

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

  async add(order) {
    await this.#client.fetch("/v1/jobs", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(order),
    });
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
        if (bar && job.total) Object.assign(bar, { max: job.total, value: job.done });
        return item;
      }),
    );
    if (jobs.some((job) => !FINAL.has(job.state))) this.#timer = setTimeout(() => this.watch(), 1000);
  }

  #item(job, key) {
    const item = document.createElement("li");
    item.dataset.key = key;
    const row = make("div", { className: "row" }, make("strong", { textContent: job.state }));
    item.append(row);
    const act = (text, verb) =>
      row.append(make("button", { type: "button", textContent: text, onclick: () => this.#do(job, verb) }));
    if (!FINAL.has(job.state)) {
      item.append(make("progress", {}));
      act("Cancel", "cancel");
    } else if (job.state === "done") {
      row.append(make("button", { type: "button", textContent: "Download", onclick: () => this.#download(job) }));
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

  async #download(job) {
    try {
      const blob = await (await this.#client.fetch(`/v1/jobs/${job.id}/result`)).blob();
      const link = make("a", { href: URL.createObjectURL(blob), download: "vivant.mp4" });
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
