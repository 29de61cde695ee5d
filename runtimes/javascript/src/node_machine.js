// The machine that Node runs on.

import { arch, cpus, release, totalmem, type } from "node:os";

/** `{ name, processors, versions, memory }`: memory in bytes, of the container where there is one. */
export function describeMachine() {
  const processors = cpus();
  const name = `${processors[0]?.model ?? arch()}, ${processors.length} cores, ${type()}`;
  return { name, processors: processors.length, versions: { node: process.versions.node, system: `${type()} ${release()} ${arch()}` }, memory: Math.min(process.constrainedMemory?.() || Infinity, totalmem()) };
}
