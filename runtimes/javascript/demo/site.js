// What this page consists of: site.json, which `sprint-export demo` writes.
//
//   version      changes with any file
//   bundle       URL of the bundle's folder, relative to the page
//   runtimes     provider -> { module, binary }: ONNX Runtime's ES module and its WebAssembly
//   suggestions  prompts
//   files        [{ path, bytes, sha256, use }]: use is page, runtime, bundle, reference, or the provider that alone needs it

/** Read site.json.
 * @returns {Promise<object>}
 * @throws {Error} the server gave something else
 */
export async function loadSite() {
  const response = await fetch("site.json", { cache: "no-cache" });
  if (!response.ok) {
    throw new Error(`site.json: the server answered ${response.status}; start it again with: sprint-export demo BUNDLE`);
  }
  return response.json();
}

/** Bytes of the files that have one of these uses. */
export function sumBytes(site, ...uses) {
  return site.files.filter((file) => uses.includes(file.use)).reduce((sum, file) => sum + file.bytes, 0);
}
