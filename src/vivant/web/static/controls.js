// The sliders and switches: one for each option of the preset that has a control on the page.

export class Controls {
  #box;
  #controls;

  // changed: called with {option: value} for what the user moved.
  constructor(box, changed) {
    this.#box = box;
    this.#controls = [...box.querySelectorAll("[data-option]")];
    for (const control of this.#controls) {
      tell(control);
      control.addEventListener("input", () => {
        tell(control);
        changed({ [control.dataset.option]: value(control) });
      });
    }
  }

  // Values by option, of those that the preset has.
  get chosen() {
    return Object.fromEntries(this.#usable.map((control) => [control.dataset.option, value(control)]));
  }

  // Put aside what the preset lacks.
  fit(options) {
    for (const control of this.#controls) {
      control.disabled = !(control.dataset.option in options);
      control.closest("label").hidden = control.disabled;
    }
    this.#box.classList.toggle("empty", !this.#usable.length);
  }

  // Show these values: the preset's defaults, or the server's word on what holds now.
  show(options) {
    this.fit(options);
    for (const control of this.#usable) {
      const wanted = options[control.dataset.option];
      if (control.type === "checkbox") control.checked = wanted;
      else control.value = wanted ?? control.min;
      tell(control);
    }
  }

  get #usable() {
    return this.#controls.filter((control) => !control.disabled);
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
