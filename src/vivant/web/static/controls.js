// The controls of the family's options: what is chosen, and what holds. Knows nothing of the server.

export class Controls {
  #box;
  #all;

  // box: holds an element with data-option="NAME" for each; changed: called with {NAME: value}.
  constructor(box, changed) {
    this.#box = box;
    this.#all = [...box.querySelectorAll("[data-option]")];
    for (const control of this.#all) {
      tell(control);
      control.addEventListener("input", () => {
        tell(control);
        changed({ [control.dataset.option]: value(control) });
      });
    }
  }

  get chosen() {
    return Object.fromEntries(this.#able().map((control) => [control.dataset.option, value(control)]));
  }

  // Controls of options that the preset lacks are put aside.
  fit(options) {
    for (const control of this.#all) {
      control.disabled = !(control.dataset.option in options);
      control.closest("label").hidden = control.disabled;
    }
    this.#box.hidden = !this.#able().length;
  }

  // The server's word on what holds now.
  show(options) {
    this.fit(options);
    for (const control of this.#able()) {
      const name = control.dataset.option;
      if (control.type === "checkbox") control.checked = options[name];
      else control.value = options[name] ?? control.min;
      tell(control);
    }
  }

  #able() {
    return this.#all.filter((control) => !control.disabled);
  }
}

function value(control) {
  if (control.type === "checkbox") return control.checked;
  if (control.type !== "range") return control.value;
  return "auto" in control.dataset && control.valueAsNumber < 0 ? null : control.valueAsNumber;
}

function tell(control) {
  const output = control.parentElement.querySelector("output");
  if (!output) return;
  const chosen = value(control);
  output.textContent = chosen === null ? "as driven" : `${chosen}${control.dataset.unit ?? ""}`;
}
