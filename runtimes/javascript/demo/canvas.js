// The picture on the page: pixels, their description, and the PNG of them.

const canvas = document.getElementById("picture");
const smooth = document.getElementById("smooth");
const SMOOTH_KEY = "sprint-export-smooth";
const LARGE = 512; // pixels: shown smaller than it is, where hard pixels would only alias

/** Paint `{ data: RGBA, width, height }`. */
export function paint({ data, width, height }, description) {
  resize(width, height, description);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
}

/** Paint a PNG that was kept. */
export async function paintPng(png, description) {
  const image = await createImageBitmap(png);
  resize(image.width, image.height, description);
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
}

/** The PNG of what is painted. */
export function makePng() {
  return new Promise((resolve, reject) => {
    canvas.toBlob((png) => (png ? resolve(png) : reject(new Error("the browser made no PNG of the picture"))), "image/png");
  });
}

/** Give a file to the user. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Let the user choose between hard and smooth pixels; the choice lasts. */
export function watchSmooth() {
  smooth.checked = localStorage.getItem(SMOOTH_KEY) === "yes";
  smooth.addEventListener("change", () => {
    localStorage.setItem(SMOOTH_KEY, smooth.checked ? "yes" : "no");
    showPixels();
  });
  showPixels();
}

function resize(width, height, description) {
  canvas.width = width;
  canvas.height = height;
  canvas.setAttribute("aria-label", description);
  showPixels();
}

function showPixels() {
  const isLarge = Math.max(canvas.width, canvas.height) >= LARGE;
  document.getElementById("smooth-label").hidden = isLarge;
  canvas.toggleAttribute("data-smooth", isLarge || smooth.checked);
}
