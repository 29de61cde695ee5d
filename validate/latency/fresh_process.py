"""A program of its own: open a bundle as an app does, draw a picture, then more, and say how long it took.

    python -P fresh_process.py '{"folder": ..., "runtime": ..., "provider": ..., "threads": ..., "prompt": ...}'
It is run by its path, so that nothing is imported but what an app imports. Lines on stdout that are its own begin with MARK.
"""

import json
import sys
import time

MARK = "sprint-export-bench "


def main() -> None:
    """Draw, and print JSON: once the first picture is there, and at the end."""
    asked = json.loads(sys.argv[1])
    start = time.perf_counter()
    from sprint_export.runtimes.open import open_bundle

    imported = time.perf_counter()
    pipe = open_bundle(asked["folder"], asked["runtime"], provider=asked["provider"], threads=asked["threads"])
    opened = time.perf_counter()
    prompts = [asked["prompt"]] * pipe.batch
    pipe(prompts)
    drawn = time.perf_counter()
    seconds = {"import_s": imported - start, "open_s": opened - imported, "first_picture_s": drawn - opened}
    print(MARK + json.dumps(seconds), flush=True)
    from sprint_export.validate.latency.fresh_round import draw_round

    print(MARK + json.dumps(draw_round(pipe)), flush=True)


if __name__ == "__main__":
    main()
