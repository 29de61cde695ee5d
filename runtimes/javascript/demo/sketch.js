// A sketch: what was drawn, stroke by stroke, so that it can be undone and painted in any size. Lines are white on black, as networks
// of edges read them. Places are shares of the width and the height, from 0 to 1.

/** @typedef {{tool: "pen" | "line" | "box" | "oval" | "rubber", points: [number, number][]} | {tool: "picture", canvas: HTMLCanvasElement}
 *   | {tool: "nothing"}} Action "picture" and "nothing" take the place of all before them */

const LEAST_LINE = 2; // pixels of the drawing: an edge is where its two sides differ, so it is two pixels wide
const LINES_ACROSS = 256; // of a large drawing's longer side
const RUBBER = 5; // times a line

/** Width of a line in a drawing of this size, in its pixels. */
export const chooseLine = (width, height) => Math.max(LEAST_LINE, Math.max(width, height) / LINES_ACROSS);

export class Sketch {
  /** @type {Action[]} */
  #actions = [];

  /** Whether there is nothing to see. */
  get isEmpty() {
    return this.#visible().length === 0;
  }

  /** Whether there is something to undo. */
  get hasActions() {
    return this.#actions.length > 0;
  }

  /** Begin an action.
   * @param {Action} action
   */
  add(action) {
    this.#actions.push(action);
  }

  /** Go on with the last stroke: lines and shapes have two ends, others every place they passed. */
  extend(point) {
    const stroke = this.#actions.at(-1);
    if (["pen", "rubber"].includes(stroke.tool)) {
      stroke.points.push(point);
    } else {
      stroke.points[1] = point;
    }
  }

  undo() {
    this.#actions.pop();
  }

  /** Wipe it; that can be undone too. */
  clear() {
    if (!this.isEmpty) {
      this.add({ tool: "nothing" });
    }
  }

  /** Paint all of it, black where nothing is. */
  paint(context, width, height, line) {
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
    context.lineCap = "round";
    for (const action of this.#visible()) {
      if (action.tool === "picture") {
        context.drawImage(action.canvas, 0, 0, width, height);
      } else {
        context.strokeStyle = action.tool === "rubber" ? "black" : "white";
        context.lineWidth = action.tool === "rubber" ? line * RUBBER : line;
        context.lineJoin = action.tool === "box" ? "miter" : "round";
        context.beginPath();
        trace(context, action.tool, action.points.map(([x, y]) => [x * width, y * height]));
        context.stroke();
      }
    }
  }

  /** Actions from the last one on that took the place of all before it. */
  #visible() {
    const last = this.#actions.findLastIndex(({ tool }) => tool === "picture" || tool === "nothing");
    const actions = this.#actions.slice(Math.max(last, 0));
    return actions[0]?.tool === "nothing" ? actions.slice(1) : actions;
  }
}

/** The path of a stroke, places in pixels. */
function trace(context, tool, points) {
  const [left, top] = points[0];
  const [right, bottom] = points.at(-1);
  if (tool === "box") {
    context.rect(left, top, right - left, bottom - top);
  } else if (tool === "oval") {
    context.ellipse((left + right) / 2, (top + bottom) / 2, Math.abs(right - left) / 2, Math.abs(bottom - top) / 2, 0, 0, 2 * Math.PI);
  } else {
    context.moveTo(left, top);
    points.forEach(([x, y]) => context.lineTo(x, y)); // one place alone is a dot
  }
}
