// Edges of a picture, white on black: where its neighbours on both sides differ in any colour.

import { makeCanvas } from "./pixels.js";

const LEAST_STEP = 40; // of 255, over two pixels

/** A canvas of a canvas's edges, of the same size. */
export function findEdges(canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const found = makeCanvas(width, height, "black");
  const edges = found.context.getImageData(0, 0, width, height);
  const differ = (one, other) => [0, 1, 2].some((channel) => Math.abs(data[4 * one + channel] - data[4 * other + channel]) > LEAST_STEP);
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      const [left, right] = [place - Number(x > 0), place + Number(x + 1 < width)];
      const [above, below] = [place - width * Number(y > 0), place + width * Number(y + 1 < height)];
      if (differ(left, right) || differ(above, below)) {
        edges.data.fill(255, 4 * place, 4 * place + 4);
      }
    }
  }
  found.context.putImageData(edges, 0, 0);
  return found.canvas;
}
