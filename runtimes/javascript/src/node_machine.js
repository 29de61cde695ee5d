// The machine that Node runs on.

import { arch, cpus, release, type } from "node:os";

/** `{ name, processors, versions }`. */
export function describeMachine() {
  const processors = cpus();
  const name = `${processors[0]?.model ?? arch()}, ${processors.length} cores, ${type()}`;
  return { name, processors: processors.length, versions: { node: process.versions.node, system: `${type()} ${release()} ${arch()}` } };
}
