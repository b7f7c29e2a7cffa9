// The chosen picture: how it comes, and its faces as buttons over it.

// The picture as the browser can show it; null where it cannot (HEIC, some TIFF), though the server can.
export async function shown(file) {
  const picture = Object.assign(new Image(), { src: URL.createObjectURL(file), alt: "your portrait" });
  return picture.decode().then(
    () => picture,
    () => null,
  );
}

// take: called with a file that is dropped there.
export function acceptDrops(place, take) {
  for (const name of ["dragenter", "dragover"]) {
    place.addEventListener(name, (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    place.addEventListener(name, () => place.classList.remove("over"));
  }
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
}

// choose: called with the number of a face, as a string. Returns what to say about them.
export function showFaces(thumb, { picture, file, faces }, choose) {
  thumb.replaceChildren(picture ?? Object.assign(document.createElement("span"), { textContent: file.name }));
  thumb.classList.toggle("single", faces.length === 1);
  thumb.append(...faces.map((face) => faceButton(thumb, face, choose)));
  if (faces.length === 0) return "No face was found; choose another picture.";
  if (faces.length === 1) return "One face. Choose another picture by clicking on this one.";
  return `${faces.length} faces; choose one.`;
}

function faceButton(thumb, { number, left, top, right, bottom }, choose) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: `face ${number}` });
  button.setAttribute("aria-label", `face ${number}`);
  button.setAttribute("aria-pressed", String(number === 0));
  button.append(Object.assign(document.createElement("span"), { textContent: number }));
  Object.assign(button.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
  });
  button.addEventListener("click", (event) => {
    event.preventDefault();
    for (const other of thumb.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    choose(String(number));
  });
  return button;
}
